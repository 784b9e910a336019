"""Sentences to translate from English into Koro, a made-up language with a regular but rich grammar.

Koro puts the verb last, adjectives and possessors after their noun, and speaks in suffixes that follow vowel harmony:
after a last vowel e or i a suffix has its light vowel, after a, o or u its dark one. Nouns take number, then case; an
adjective repeats the case of its noun; after a numeral the noun stays singular; verbs take tense, and number of the
subject; negation is a prefix, a question ends in a particle. Proper names take case suffixes only.
The key of a sentence is its Koro text with the proper names taken away. Knows nothing about models.
"""

import random
from dataclasses import dataclass

from evomerge.zoo.problems.base import Problem

_NOUNS = {
    "dog": "reku", "cat": "miso", "bird": "pilen", "horse": "tandar", "king": "oldus", "queen": "elmi",
    "child": "nabi", "farmer": "gorut", "teacher": "sevin", "soldier": "brakon", "fisherman": "lupas",
    "friend": "temi", "house": "dovan", "tree": "silke", "river": "huran", "mountain": "kemor", "book": "wite",
    "letter": "zanu", "knife": "farok", "boat": "yelis", "bread": "muta", "apple": "pirel", "stone": "godan",
    "flower": "linse", "door": "rovak", "garden": "hesit", "sword": "dralu", "wolf": "vargon", "bear": "bumor",
    "fish": "nelik", "road": "tosan", "village": "kirem", "singer": "lalin", "hunter": "askor", "baker": "pondu",
    "doctor": "medis", "lamp": "sunek", "ring": "jovi", "coat": "uvar", "basket": "kelpo",
}  # fmt: skip
_PLURALS = {"child": "children", "fisherman": "fishermen", "knife": "knives", "wolf": "wolves", "fish": "fish"}
_VERBS = {
    ("see", "sees", "saw"): "tor", ("love", "loves", "loved"): "ame", ("find", "finds", "found"): "gil",
    ("carry", "carries", "carried"): "porsu", ("hear", "hears", "heard"): "unde",
    ("follow", "follows", "followed"): "sek",
    ("want", "wants", "wanted"): "vol", ("know", "knows", "knew"): "keni", ("hide", "hides", "hid"): "mask",
    ("wash", "washes", "washed"): "lavi", ("paint", "paints", "painted"): "pict", ("buy", "buys", "bought"): "karu",
    ("lose", "loses", "lost"): "perd", ("watch", "watches", "watched"): "okul", ("fear", "fears", "feared"): "timo",
    ("help", "helps", "helped"): "juvi", ("break", "breaks", "broke"): "krat", ("need", "needs", "needed"): "beso",
}  # fmt: skip
_GIVING = {
    ("give", "gives", "gave"): "dan", ("show", "shows", "showed"): "mostri", ("bring", "brings", "brought"): "feru",
    ("sell", "sells", "sold"): "vend", ("send", "sends", "sent"): "mitu",
}  # fmt: skip
_ADJECTIVES = {
    "big": "gran", "small": "pitik", "old": "velu", "young": "joven", "red": "rosk", "white": "albi",
    "black": "noru", "wise": "sofi", "happy": "lety", "sad": "tris", "good": "bonu", "strong": "fortu",
    "quiet": "tasi", "rich": "doru", "poor": "mizel", "green": "verdo",
}  # fmt: skip
_NUMERALS = {"two": "du", "three": "tin", "four": "kar", "five": "pen", "six": "ses", "seven": "hep"}
_PLACES = ("house", "garden", "river", "village", "road", "mountain", "boat", "tree")
_PEOPLE = ("Anna", "Tom", "Peter", "Maria", "Jonas", "Clara", "Felix", "Nora")
_TIMES = {
    "past": {"yesterday": "heri", "long ago": "oliman"},
    "present": {"today": "hodi", "often": "sepe"},
    "future": {"tomorrow": "kras", "soon": "moksu"},
}
_BEINGS = (*tuple(_NOUNS)[:12], "wolf", "bear", "singer", "hunter", "baker", "doctor")


def _light(stem: str) -> bool:
    return next(c for c in reversed(stem) if c in "aeiouy") in "eiy"


def _suffix(stem: str, light: str, dark: str) -> str:
    return stem + (light if _light(stem) else dark)


_CASES = {"subject": ("", ""), "object": ("n", "m"), "to": ("ke", "ka"), "of": ("se", "so"), "in": ("li", "lu")}


def _case(stem: str, case: str) -> str:
    return _suffix(stem, *_CASES[case])


@dataclass(frozen=True)
class _Phrase:
    """A noun phrase: its English, its Koro words in a case, whether it is plural, and whether a proper name."""

    english: str
    koro: dict[str, str]
    plural: bool


def _phrase(rng: random.Random, nouns: tuple[str, ...], *, names: bool, depth: int = 1) -> _Phrase:
    if names and rng.random() < 0.2:
        name = rng.choice(_PEOPLE)
        return _Phrase(name, {case: f"<{name}>" + _CASES[case][0] for case in _CASES}, False)
    noun = rng.choice(nouns)
    plural = rng.random() < 0.4
    numeral = rng.choice(tuple(_NUMERALS)) if plural and rng.random() < 0.4 else None
    adjective = rng.choice(tuple(_ADJECTIVES)) if rng.random() < 0.4 else None
    english = " ".join(
        word
        for word in (numeral or "the", adjective, _PLURALS.get(noun, noun + "s") if plural else noun)
        if word is not None
    )
    stem = _NOUNS[noun] if not plural or numeral else _suffix(_NOUNS[noun], "ri", "ru")
    owner = _phrase(rng, _BEINGS, names=True, depth=0) if depth and rng.random() < 0.2 else None
    koro = {}
    for case in _CASES:
        words = [_NUMERALS[numeral]] if numeral else []
        words.append(_case(stem, case))
        if adjective:
            words.append(_case(_ADJECTIVES[adjective], case))
        if owner:
            words.append(owner.koro["of"])
        koro[case] = " ".join(words)
    return _Phrase(f"{english} of {owner.english}" if owner else english, koro, plural)


def make(rng: random.Random) -> Problem:
    """Draw one sentence: `{"source", "target"}`."""
    giving = rng.random() < 0.3
    forms, stem = rng.choice(tuple((_GIVING if giving else _VERBS).items()))
    subject = _phrase(rng, _BEINGS, names=True)
    thing = _phrase(rng, tuple(_NOUNS), names=not giving)
    tense = rng.choice(("past", "present", "future"))
    negative, question = rng.random() < 0.25, rng.random() < 0.2
    verb = _suffix(stem, "t", "d") if stem[-1] in "aeiou" else stem
    verb += {"past": "e", "present": "i", "future": "o"}[tense]
    verb = _suffix(verb, "mi", "mu") if subject.plural else verb
    english, koro = [subject.english], [subject.koro["subject"]]
    helper = {"past": "did", "present": "do" if subject.plural else "does", "future": "will"}[tense]
    if question:
        english = [helper, *english, *(["not"] if negative else []), forms[0]]
    elif negative:
        english += [helper, "not", forms[0]]
    else:
        english += [
            "will " + forms[0] if tense == "future" else forms[2] if tense == "past" else forms[not subject.plural]
        ]
    english.append(thing.english)
    if giving:
        receiver = _phrase(rng, _BEINGS, names=True, depth=0)
        english.append("to " + receiver.english)
        koro.append(receiver.koro["to"])
    if rng.random() < 0.25:
        place = _phrase(rng, _PLACES, names=False, depth=0)
        english.append("in " + place.english)
        koro.append(place.koro["in"])
    koro += [thing.koro["object"], ("ne" if negative else "") + verb]
    if question:
        koro.append("ka")
    if rng.random() < 0.3:
        time = rng.choice(tuple(_TIMES[tense]))
        english.append(time)
        koro.insert(0, _TIMES[tense][time])
    source = " ".join(english)
    source = source[0].upper() + source[1:] + ("?" if question else ".")
    marked = " ".join(koro)
    target = marked.replace("<", "").replace(">", "")
    key = marked
    for name in _PEOPLE:
        key = key.replace(f"<{name}>", "<>")
    return Problem(key, {"source": source, "target": target})
