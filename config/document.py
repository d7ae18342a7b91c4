"""A YAML file as plain data, with the place of every key and value, and its variables filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

Path_ = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<body>[^}]*)(?P<end>\}?))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NODES = 100_000
MAX_BYTES = 1 << 20
NULL_TAG = "tag:yaml.org,2002:null"
MERGE_TAG = "tag:yaml.org,2002:merge"
TEXT_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:value", MERGE_TAG})
TAGS = TEXT_TAGS | {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "null", "bool", "int", "float", "timestamp")}
Pairs = dict[str, tuple[yaml.ScalarNode, yaml.Node]]


class Place(msgspec.Struct, frozen=True):
    """Where something stands; line and column count from 1."""

    line: int
    column: int


class Finding(msgspec.Struct, frozen=True):
    """What is wrong, and where. `advice`: the configuration works, but not as its author will have meant it. `note`: it is only told."""

    message: str
    place: Place | None = None
    advice: bool = False
    note: bool = False


class ConfigError(Exception):
    """A configuration that cannot be used. `findings` has every reason; the text is one line for each, as file:line:column: message."""

    def __init__(self, file: str, findings: list[Finding]) -> None:
        self.file = file
        self.findings = findings
        super().__init__("\n".join(shown(file, finding) for finding in findings))


def shown(file: str, finding: Finding) -> str:
    """One finding as one line."""
    message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in finding.message)
    if finding.place is None:
        return f"{file}: {message}"
    return f"{file}:{finding.place.line}:{finding.place.column}: {message}"


class Document:
    """`data` is what the file says; `place` finds a path's line and column; `written` has the text of values that a variable filled in.

    `content`: instead of what is in the file, of which the name alone is then used.
    """

    def __init__(self, file: Path, env: Mapping[str, str], content: bytes | None = None) -> None:
        self.file = str(file)
        self.findings: list[Finding] = []
        self.written: dict[Path_, str] = {}
        self._folder = file.parent
        self._env = env
        self._places: dict[Path_, Place] = {}
        self._keys: dict[Path_, Place] = {}
        self._filled: dict[int, str] = {}
        self._pairs_of: dict[int, Pairs] = {}
        self._open: set[int] = set()
        self._nodes = 0
        self.data: Any = self._read(file, content)
        if self.findings:
            raise ConfigError(self.file, self.findings)

    def place(self, path: Path_, *, key: bool = False) -> Place | None:
        """The place of the value at a path (of its key, if wanted), or of the nearest thing around it."""
        if key and path in self._keys:
            return self._keys[path]
        while path not in self._places:
            if not path:
                return None
            path = path[:-1]
        return self._places[path]

    def _fault(self, message: str, mark: Any = None) -> ConfigError:
        return ConfigError(self.file, [Finding(message, _place(mark) if mark else None)])

    def _read(self, file: Path, content: bytes | None) -> Any:
        text = ""
        try:
            if content is None:
                with file.open("rb") as source:
                    content = source.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise self._fault(f"is larger than {MAX_BYTES} bytes")
            text = content.decode()
            loader = yaml.SafeLoader(text)
            try:
                node = loader.get_single_node()
                return {} if node is None or node.tag == NULL_TAG else self._value(loader, node, ())
            finally:
                loader.dispose()
        except OSError as exc:
            raise self._fault(f"cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise self._fault(f"is not UTF-8 text (byte {exc.start})") from exc
        except RecursionError as exc:
            raise self._fault("is nested too deep") from exc
        except yaml.reader.ReaderError as exc:
            before = text[: exc.position]
            place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise ConfigError(self.file, [Finding(f"not valid YAML: the character U+{ord(text[exc.position]):04X} is not allowed", place)]) from exc
        except yaml.MarkedYAMLError as exc:
            problem = f"{exc.context}: {exc.problem}" if isinstance(exc, yaml.composer.ComposerError) and exc.context else exc.problem or exc.context
            raise self._fault(f"not valid YAML: {problem}", exc.problem_mark or exc.context_mark) from exc

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fault(f"holds more than {MAX_NODES} values (anchors that repeat themselves?)")

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_) -> Any:
        self._count(1)
        self._places[path] = _place(node.start_mark)
        if node.tag not in TAGS:
            self.findings.append(Finding(f"the tag `{node.tag}` is not supported", self._places[path]))
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(loader, node, path)
        if id(node) in self._open:
            raise self._fault("this anchor holds itself", node.start_mark)
        self._open.add(id(node))
        data: Any
        if isinstance(node, yaml.MappingNode):
            data = {}
            for name, (key, item) in self._pairs(node).items():
                self._keys[(*path, name)] = _place(key.start_mark)
                data[name] = self._value(loader, item, (*path, name))
        else:
            data = [self._value(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        self._open.discard(id(node))
        return data

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.ScalarNode, path: Path_) -> Any:
        if node.tag in TEXT_TAGS:
            return self._fill_in(node, path)
        try:
            value = loader.construct_object(node)
        except (ValueError, LookupError, AttributeError, yaml.constructor.ConstructorError):  # what PyYAML raises for `!!int x`, `2024-13-45` …
            value = None
            self.findings.append(Finding(f"`{node.value[:40]}` is no {node.tag.rpartition(':')[2]}; put text in quotes", self._places[path]))
        if isinstance(value, int) and abs(value) >= 1 << 63:
            self.findings.append(Finding("this number is too large", self._places[path]))
            return None
        return value

    def _pairs(self, node: yaml.MappingNode) -> Pairs:
        """A mapping's keys with those that `<<` brings in; its own come first, then the first mapping that has the key."""
        if id(node) in self._pairs_of:
            return self._pairs_of[id(node)]
        pairs: Pairs = {}
        self._pairs_of[id(node)] = pairs  # set first: a mapping that merges itself adds nothing
        merged: list[yaml.MappingNode] = []
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode) or not _is_text(key.value):
                self.findings.append(Finding("a key must be a plain word", _place(key.start_mark)))
            elif key.tag == MERGE_TAG:
                sources = item.value if isinstance(item, yaml.SequenceNode) else [item]
                if not all(isinstance(source, yaml.MappingNode) for source in sources):
                    raise self._fault("`<<` takes a mapping or a list of mappings", item.start_mark)
                merged += sources
            elif key.value in pairs:
                self.findings.append(Finding(f"the key `{key.value}` stands here twice", _place(key.start_mark)))
            else:
                pairs[key.value] = (key, item)
        for source in merged:
            theirs = self._pairs(source)
            self._count(len(theirs))
            pairs |= {name: pair for name, pair in theirs.items() if name not in pairs}
        return pairs

    def _fill_in(self, node: yaml.ScalarNode, path: Path_) -> str:
        """`${NAME}`, `${NAME:-default}`, `${file:PATH}`; `$$` is a dollar sign."""

        def replace(match: re.Match[str]) -> str:
            body = match["body"]
            if body is None:
                return "$"
            try:
                if not match["end"]:
                    raise ValueError("`${` without its `}`; write $$ for a dollar sign")
                return self._variable(body)
            except ValueError as exc:
                self.findings.append(Finding(str(exc), self._places[path]))
                return ""

        if id(node) not in self._filled:  # an anchor's text is filled in once, however often it is used
            self._filled[id(node)] = _VARIABLE.sub(replace, node.value)
            if not _is_text(self._filled[id(node)]):
                self.findings.append(Finding("this is no text: it holds half a character", self._places[path]))
        if self._filled[id(node)] != node.value:
            self.written[path] = node.value
        return self._filled[id(node)]

    def _variable(self, body: str) -> str:
        if "${" in body:
            raise ValueError(f"`${{{body}}}` holds another variable, which a variable cannot")
        if body.startswith("file:"):
            return self._file(body)
        name, has_default, default = body.partition(":-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"`${{{body}}}` is not a variable; write ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}, and $$ for a dollar sign")
        value = self._env.get(name)
        if has_default:
            return value or default
        if value is None:
            raise ValueError(f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}")
        return value

    def _file(self, body: str) -> str:
        """What a file holds, without its last line's end; a relative path begins at the configuration's folder."""
        try:
            with (self._folder / expanded(body.removeprefix("file:"))).open(encoding="utf-8") as source:
                text = source.read(MAX_BYTES + 1)
        except OSError as exc:
            raise ValueError(f"the file of `${{{body}}}` cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise ValueError(f"the file of `${{{body}}}` cannot be read: it is not UTF-8 text") from exc
        except ValueError as exc:
            raise ValueError(f"the file of `${{{body}}}` cannot be read: that is no path") from exc
        if len(text) > MAX_BYTES:
            raise ValueError(f"the file of `${{{body}}}` is larger than {MAX_BYTES} bytes")
        return text.rstrip("\r\n")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def expanded(path: str) -> Path:
    """A path with `~` filled in, or as it stands where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)
