"""Plain text as LaTeX that prints it with pdflatex's default fonts, in any font encoding.

Letters beyond ASCII become accents and commands. What no standard font has (Chinese, Cyrillic, emoji) is printed as its
code point, so that two names stay two, and `unprintable` names it for a warning.
"""

from __future__ import annotations

import re
import unicodedata

# fmt: off
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}",  # brackets: after a line's end they would be its argument
    "±": r"$\pm$", "∓": r"$\mp$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"$\mathsection$",
    "¶": r"$\mathparagraph$", "×": r"$\times$", "÷": r"$\div$", "−": "$-$", "‐": "-", "‑": "-", "–": "--", "—": "---",
    "‘": "`", "’": "'", "‚": ",", "“": "``", "”": "''", "′": r"$\prime$", "″": r"$\prime\prime$", "°": r"$^\circ$",
    "≥": r"$\geq$", "≤": r"$\leq$", "≠": r"$\neq$", "≈": r"$\approx$", "≡": r"$\equiv$", "∼": r"$\sim$",
    "≪": r"$\ll$", "≫": r"$\gg$", "…": r"\dots{}", "·": r"$\cdot$", "⋅": r"$\cdot$", "•": r"\textbullet{}",
    "→": r"$\rightarrow$", "←": r"$\leftarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "↔": r"$\leftrightarrow$",
    "↦": r"$\mapsto$", "⇒": r"$\Rightarrow$", "⇐": r"$\Leftarrow$", "⇔": r"$\Leftrightarrow$", "↗": r"$\nearrow$",
    "↘": r"$\searrow$", "∞": r"$\infty$", "√": r"$\surd$", "∂": r"$\partial$", "∇": r"$\nabla$", "∆": r"$\Delta$",
    "∑": r"$\sum$", "∏": r"$\prod$", "∫": r"$\int$", "∈": r"$\in$", "∪": r"$\cup$", "∩": r"$\cap$", "⊂": r"$\subset$",
    "∝": r"$\propto$", "∀": r"$\forall$", "∃": r"$\exists$", "∅": r"$\emptyset$", "⊕": r"$\oplus$", "⊗": r"$\otimes$",
    "∘": r"$\circ$", "⁄": "/", "⋆": r"$\star$", "★": r"$\star$", "∥": r"$\parallel$", "⊥": r"$\perp$", "¬": r"$\neg$",
    "ℓ": r"$\ell$", "ℏ": r"$\hbar$", "ℜ": r"$\Re$", "ℑ": r"$\Im$", "♠": r"$\spadesuit$", "♣": r"$\clubsuit$",
    "♥": r"$\heartsuit$", "♦": r"$\diamondsuit$", "♭": r"$\flat$", "♯": r"$\sharp$",
    "©": r"\copyright{}", "®": r"\textregistered{}", "™": r"\texttrademark{}", "£": r"\pounds{}", "€": r"\texteuro{}",
    "¥": r"\textyen{}", "¢": r"\textcent{}", "¡": r"\textexclamdown{}", "¿": r"\textquestiondown{}",
    "ª": r"\textordfeminine{}", "º": r"\textordmasculine{}",
    "\N{NO-BREAK SPACE}": "~", "\N{NARROW NO-BREAK SPACE}": r"\,", "\N{THIN SPACE}": r"\,",
}
# Letters that are no letter of ASCII with an accent.
_LETTERS = {
    "ß": r"\ss{}", "ẞ": r"\SS{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}",
    "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "ȷ": r"\j{}",
}
# The default encoding OT1 lacks these. Every LaTeX knows T1 too.
_ONLY_T1 = {
    "đ": r"\dj{}", "Đ": r"\DJ{}", "ð": r"\dh{}", "Ð": r"\DH{}", "þ": r"\th{}", "Þ": r"\TH{}", "ŋ": r"\ng{}",
    "Ŋ": r"\NG{}", "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "‹": r"\guilsinglleft{}",
    "›": r"\guilsinglright{}", "„": r"\quotedblbase{}",
}
_GREEK = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ζ": r"\zeta", "η": r"\eta", "ι": r"\iota",
    "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu", "ξ": r"\xi", "π": r"\pi", "ρ": r"\rho", "τ": r"\tau",
    "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega",
    "ε": r"\varepsilon", "ϵ": r"\epsilon", "θ": r"\theta", "ϑ": r"\vartheta", "ο": "o", "ς": r"\varsigma",
    "σ": r"\sigma", "υ": r"\upsilon", "φ": r"\varphi", "ϕ": r"\phi", "ϖ": r"\varpi", "ϱ": r"\varrho", "µ": r"\mu",
    "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta", "Λ": r"\Lambda", "Ξ": r"\Xi", "Π": r"\Pi", "Σ": r"\Sigma",
    "Υ": r"\Upsilon", "Φ": r"\Phi", "Ψ": r"\Psi", "Ω": r"\Omega",
    **{char: rf"\mathrm{{{latin}}}" for char, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True)},
}
_TEXT_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b",
}
_MATH_ACCENTS = {
    "\u0300": "grave", "\u0301": "acute", "\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "\u0306": "breve",
    "\u0307": "dot", "\u0308": "ddot", "\u030a": "mathring", "\u030c": "check",
}
# fmt: on
_BELOW = {"\u0323", "\u0327", "\u0331"}
_OGONEK = "\u0328"
_CLUSTER = re.compile(r"(.)([\u0300-\u036f]*)", re.DOTALL)
_CODE_POINT = re.compile(r"\{\[\}U\+([0-9A-F]{4,6})\{\]\}")


class Latex(str):
    """Text that is LaTeX already. Whatever else a template prints is escaped."""

    __slots__ = ()


def escape(text: object) -> Latex:
    """Plain text as ASCII LaTeX that prints it, on one line.

    >>> escape("R&D_50 %, Møller, β")
    'R\\\\&D\\\\_50 \\\\%, M\\\\o{}ller, $\\\\beta$'
    """
    if isinstance(text, Latex):
        return text
    line = unicodedata.normalize("NFC", " ".join(str(text).split()))
    printed, before = "", " "
    for match in _CLUSTER.finditer(line):
        # TeX would join two of them, as -- becomes a dash.
        printed += "{}" if match[0] in {"-", "'", "`"} and before in "-'`?!" else ""
        printed += _printed(match[0])
        before = match[0]
    return Latex(printed)


def unprintable(source: str) -> list[str]:
    """Characters that `source`, made by `escape`, prints as their code points, each once, in their order."""
    return list(dict.fromkeys(chr(int(code, 16)) for code in _CODE_POINT.findall(source)))


def named(character: str) -> str:
    """Code point and name of a character, in ASCII.

    >>> named("漢")
    'U+6F22 CJK UNIFIED IDEOGRAPH-6F22'
    """
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"


def _printed(cluster: str) -> str:
    """A character, with the marks that follow it."""
    if cluster in _SPECIAL:
        return _SPECIAL[cluster]
    if cluster.isascii():
        return cluster if cluster.isprintable() else " "
    if (letter := _letter(cluster)) is not None:
        return letter
    if unicodedata.category(cluster[0]) in {"Cf", "Cc", "Zs", "Zl", "Zp"}:  # invisible, or a blank of some width
        return " " if unicodedata.category(cluster[0]).startswith("Z") else ""
    kind, _, _ = unicodedata.decomposition(cluster[0]).partition(" ")
    if kind.startswith("<") and len(cluster) == 1:  # another form of ordinary characters, such as ² or ﬁ
        plain = unicodedata.normalize("NFKD", cluster)
        if all(_is_printable(char) for char in plain):
            inner = escape(plain)
            return {"<super>": rf"\textsuperscript{{{inner}}}", "<sub>": rf"\textsubscript{{{inner}}}"}.get(kind, inner)
    return "".join(f"{{[}}U+{ord(char):04X}{{]}}" for char in cluster)


def _is_printable(character: str) -> bool:
    return character.isascii() or character in _SPECIAL or _letter(character) is not None


def _letter(cluster: str) -> str | None:
    """A letter with its accents; None where there is no command for it."""
    if cluster in _LETTERS:
        return _LETTERS[cluster]
    if cluster in _ONLY_T1:
        return _in_t1(_ONLY_T1[cluster])
    base, *marks = list(unicodedata.normalize("NFD", cluster))
    if base in _GREEK:
        return _math(_GREEK[base], marks)
    letter = base if base.isascii() and base.isalpha() else _LETTERS.get(base)
    return _accented(letter, marks) if letter is not None and marks else None


def _accented(letter: str, marks: list[str]) -> str | None:
    """A Latin letter, which is LaTeX already, with combining marks; None where there is no command for them."""
    if marks == [_OGONEK]:
        return _in_t1(rf"\k{{{letter}}}")
    above = [mark for mark in marks if mark not in _BELOW]
    if not all(mark in _TEXT_ACCENTS for mark in marks):
        return None
    if len(above) > 1:  # text accents do not stack
        accented = _math(rf"\mathrm{{{letter}}}", above) if letter.isalpha() else None
    elif above:
        dotless = rf"\{letter}" if letter in {"i", "j"} else letter
        accented = rf"\{_TEXT_ACCENTS[above[0]]}{{{dotless}}}"
    else:
        accented = letter
    for mark in marks:
        if accented is not None and mark in _BELOW:
            accented = rf"\{_TEXT_ACCENTS[mark]}{{{accented}}}"
    return accented


def _math(symbol: str, marks: list[str]) -> str | None:
    for mark in marks:
        if mark not in _MATH_ACCENTS:
            return None
        symbol = rf"\{_MATH_ACCENTS[mark]}{{{symbol}}}"
    return f"${symbol}$"


def _in_t1(command: str) -> str:
    return rf"{{\fontencoding{{T1}}\selectfont {command}}}"
