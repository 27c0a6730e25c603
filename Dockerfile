# The suite with everything it needs, for CPUs or for NVIDIA GPUs:
#   docker build -t suite --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" .
#   docker build -t suite:cuda --build-arg DEVICE=cuda .
# docs/docker.md says how to run it. PyTorch's wheels for GPUs bring CUDA with them; the host needs only the driver and
# the NVIDIA Container Toolkit.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

# cpu: wheels without CUDA, a fifth of the size. cuda: those of PyPI, which need Linux on x86_64 or aarch64.
ARG DEVICE=cpu
ARG TORCH=2.14.1
ARG TORCHVISION=0.29.1
# The user in the container. Give the ids of the one who owns the mounted folders: --build-arg USER_ID=$(id -u)
ARG USER_ID=1000
ARG GROUP_ID=1000

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN case "$DEVICE" in \
      cpu) pip install --no-cache-dir "torch==$TORCH" "torchvision==$TORCHVISION" \
             --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) pip install --no-cache-dir "torch==$TORCH" "torchvision==$TORCHVISION" ;; \
      *) echo "DEVICE is '$DEVICE'; expected cpu or cuda" >&2; exit 1 ;; \
    esac

WORKDIR /opt/suite
COPY . .
# From the checkout, since the packages have names that other projects use too. solo-learn as in the Makefile.
RUN pip install --no-cache-dir -e '.[saliency,hub]' && pip install --no-cache-dir --no-deps solo-learn==1.0.2 \
    && groupadd --gid "$GROUP_ID" suite && useradd --uid "$USER_ID" --gid "$GROUP_ID" --create-home suite \
    && mkdir /data /runs && chown suite:suite /data /runs

# Matplotlib's folder is one that any user may write: docker run --user may name one that has no home.
ENV SUITE_DATA=/data SUITE_RUNS=/runs MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

ARG COMMIT=
ENV SUITE_COMMIT=$COMMIT

USER $USER_ID:$GROUP_ID
WORKDIR /runs
VOLUME ["/data", "/runs"]
# Exec form: the SIGTERM of `docker stop` reaches `suite`, which saves a checkpoint.
ENTRYPOINT ["suite"]
CMD ["--help"]
