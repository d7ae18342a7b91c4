"""Whether two questions that embed alike may ask different things all the same: what an embedding hardly sees. Pure; in doubt they differ."""

import re
from collections import Counter
from collections.abc import Iterator

_WORD = re.compile(r"[^\W_]+(?:[.,:/-]\d+)*")
_SENTENCE = re.compile(r"(?:^|[.!?:]\s+|\n)\W*")
_SPLIT = str.maketrans({"’": "'", "‘": "'"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEGATIONS = _words(
    "not no never without cannot cant dont doesnt didnt isnt arent wasnt werent wont wouldnt shouldnt couldnt hasnt havent hadnt none nothing nobody "
    "neither nor nowhere except unable lacks lacking yet "
    "nicht kein keine keinen keinem keiner keines nie niemals ohne nichts niemand "
    "pas jamais sans aucun aucune rien personne "
    "nunca sin ningún ninguna ninguno nada nadie jamás "
    "non mai senza nessuno nessuna niente não sem nenhum nenhuma "
    "niet geen nooit zonder не нет без никогда нельзя"
)
_UNSPACED = re.compile("[不没無无未别非]|ない|ません|なし")
_NUMBERS = _words(
    "zero two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand million billion half twice "
    "first second third fourth fifth last next previous both "
    "eins zwei drei vier fünf sechs sieben acht neun zehn deux trois quatre cinq sept huit neuf dix dos tres cuatro cinco seis siete ocho nueve diez"
)
_SCOPES = _words(
    "only just all every each any some most least more less fewer best worst max min maximum minimum exactly "
    "nur alle jede jeder jedes mehr weniger tous toutes chaque plus moins seulement todos todas cada más menos solo sólo"
)
_NEGATING = ("un", "in", "im", "il", "ir", "dis", "non")  # before a word
_TIMES = _words(
    "january february march april june july august september october november december monday tuesday wednesday thursday friday saturday sunday "
    "today tomorrow yesterday tonight now morning evening night weekend week month year daily weekly monthly yearly before after since until "
    "januar februar märz april mai juni juli oktober dezember montag dienstag mittwoch donnerstag freitag samstag sonntag heute morgen gestern "
    "janvier février mars avril juin juillet août septembre octobre novembre décembre lundi mardi mercredi jeudi vendredi samedi dimanche demain "
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre lunes martes jueves viernes hoy ayer mañana"
)
_ASKING = {
    **dict.fromkeys(("what", "which", "whats", "was", "welche", "welcher", "welches", "quel", "quelle", "que", "qué", "cuál"), "what"),
    **dict.fromkeys(("who", "whom", "whos", "wer", "wem", "wen", "qui", "quién"), "who"),
    **dict.fromkeys(("whose", "wessen"), "whose"),
    **dict.fromkeys(("when", "wann", "quand", "cuándo"), "when"),
    **dict.fromkeys(("where", "wheres", "wo", "wohin", "où", "dónde"), "where"),
    **dict.fromkeys(("why", "warum", "wieso", "weshalb", "pourquoi"), "why"),
    **dict.fromkeys(("how", "hows", "wie", "comment", "cómo"), "how"),
}
_MUCH = {"many": "many", "much": "much", "long": "long", "often": "often", "old": "old", "far": "far", "big": "big", "tall": "tall"}
_LANGUAGES = {
    "en": _words("the is are what how do does my your i you of and to in can when where why which it for on with"),
    "de": _words("der die das ist sind wie was mein ich und zu wann wo warum für auf mit ein eine den dem kann von"),
    "fr": _words("le la les est sont comment que quel quelle mon je et à quand où pourquoi de des un une pour du puis"),
    "es": _words("el la los las es son cómo qué mi yo y a cuándo dónde por de un una para del puedo cuál se"),
    "it": _words("il lo gli è sono come che mio io e quando dove perché di un una per del posso qual si"),
    "pt": _words("o os as é são como que meu eu e quando onde por de um uma para do posso qual se"),
    "nl": _words("de het is zijn hoe wat mijn ik en te wanneer waar waarom voor op met een kan van"),
}
_SMALL = frozenset().union(*_LANGUAGES.values()) | _words(
    "a an at by be me we us our this that there please could would should i'm about tell hi hello from"
)


def difference(one: str, other: str) -> str | None:
    """What tells the two apart; None: nothing that is looked at."""
    a, b = _read(one), _read(other)
    if _language(one, a) != _language(other, b):
        return "language"
    for name, words in (("negation", _NEGATIONS), ("number", _NUMBERS), ("time", _TIMES)):
        if _counted(a, words) != _counted(b, words):
            return name
    if len(_UNSPACED.findall(one)) != len(_UNSPACED.findall(other)):
        return "negation"
    if _figures(a) != _figures(b):
        return "number"
    if _scopes(a) != _scopes(b):
        return "scope"
    if _negated(a) != _negated(b) or _opposed(a, b):
        return "negation"
    if (asks := _asking(a)) and (asked := _asking(b)) and asks != asked:
        return "question word"
    return _names(one, other, a, b) or _swapped(a, b)


def _read(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text.translate(_SPLIT).replace("'", ""))]


def _counted(words: list[str], known: frozenset[str]) -> object:
    """Which of them there are; of negations only how many, since each language has several for one."""
    found = [word for word in words if word in known]
    return len(found) if known is _NEGATIONS else Counter(found)


def _scopes(words: list[str]) -> Counter[str]:
    """Of what there is to be: all of it, only that, the cheapest."""
    return Counter(word for word in words if word in _SCOPES or (len(word) > 5 and word.endswith("est")))


def _negated(words: list[str]) -> list[str]:
    """How the words begin that follow a negation, small ones aside."""
    follow = [next((word for word in words[at + 1 :] if word not in _SMALL), "") for at, word in enumerate(words) if word in _NEGATIONS]
    return sorted(word[:4] for word in follow)


def _opposed(a: list[str], b: list[str]) -> bool:
    """A word of the one with a negating syllable before it in the other."""
    one, other = set(a) - set(b), set(b) - set(a)
    return any(prefix + x in ys for prefix in _NEGATING for xs, ys in ((one, other), (other, one)) for x in xs if len(x) > 2)


def _figures(words: list[str]) -> list[str]:
    """In their order: from 5 to 10 is not from 10 to 5."""
    return [word.replace(",", "") for word in words if any(letter.isdigit() for letter in word)]


def _asking(words: list[str]) -> set[str]:
    return {_ASKING[word] + (_MUCH.get(after, "") if _ASKING[word] == "how" else "") for word, after in _pairs(words) if word in _ASKING}


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    return zip(words, [*words[1:], ""], strict=True)


def _language(text: str, words: list[str]) -> str:
    """By its script, or by the language that most of its small words are of; "": not to be told."""
    letters = [letter for letter in text if letter.isalpha()]
    if letters and sum(letter > "ɏ" for letter in letters) * 2 > len(letters):
        return "script " + str(ord(max(letters)) >> 10)
    scores = {name: sum(word in small for word in words) for name, small in _LANGUAGES.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 and sum(score == scores[best] for score in scores.values()) == 1 else "en"


def _names(one: str, other: str, a: list[str], b: list[str]) -> str | None:
    """Names and codes of the one must be in the other, in the same order."""
    names = {*_named(one), *_named(other)}
    if [word for word in a if word in names] != [word for word in b if word in names]:
        return "name"
    return None


def _named(text: str) -> Iterator[str]:
    """Words with a capital that does not begin a sentence, but for the one of `I`, and words of capitals alone."""
    starts = {match.end() for match in _SENTENCE.finditer(text)}
    for match in _WORD.finditer(text.translate(_SPLIT)):
        word = match.group()
        if (len(word) > 1 and word.isupper()) or (word[:1].isupper() and match.start() not in starts and word != "I"):
            yield word.casefold()


def _swapped(a: list[str], b: list[str]) -> str | None:
    """The same sentence with one word in another's place, or with its words in another order."""
    if sorted(a) == sorted(b):
        return None if a == b else "order"
    one, other = Counter(a) - Counter(b), Counter(b) - Counter(a)
    if one.total() == 1 and other.total() == 1:
        (x,), (y,) = one, other
        if not (x in _SMALL and y in _SMALL) and (len(x) < 4 or x[:4] != y[:4]):
            return "word"
    return None
