"""A YAML file as plain data, with the place of every key and value, and its variables filled in."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

Path_ = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<body>[^}]*)\})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NODES = 100_000


class Place(msgspec.Struct, frozen=True):
    """Where something stands; line and column count from 1."""

    line: int
    column: int


class Finding(msgspec.Struct, frozen=True):
    """What is wrong, and where. `advice`: the configuration works, but not as its author will have meant it."""

    message: str
    place: Place | None = None
    advice: bool = False


class ConfigError(Exception):
    """A configuration that cannot be used. `findings` has every reason; the text is one line for each, as file:line:column: message."""

    def __init__(self, file: str, findings: list[Finding]) -> None:
        self.file = file
        self.findings = findings
        super().__init__("\n".join(shown(file, finding) for finding in findings))


def shown(file: str, finding: Finding) -> str:
    """One finding as one line."""
    if finding.place is None:
        return f"{file}: {finding.message}"
    return f"{file}:{finding.place.line}:{finding.place.column}: {finding.message}"


class Document:
    """`data` is what the file says; `place` finds a path's line and column."""

    def __init__(self, file: Path, env: Mapping[str, str]) -> None:
        self.file = str(file)
        self.findings: list[Finding] = []
        self._folder = file.parent
        self._env = env
        self._places: dict[Path_, Place] = {}
        self._keys: dict[Path_, Place] = {}
        self._nodes = 0
        self.data: Any = self._read(file)
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

    def _read(self, file: Path) -> Any:
        try:
            text = file.read_bytes().decode()
            loader = yaml.SafeLoader(text)
            try:
                node = loader.get_single_node()
                return {} if node is None else self._value(loader, node, ())
            finally:
                loader.dispose()
        except OSError as exc:
            raise ConfigError(self.file, [Finding(f"cannot be read: {exc.strerror}")]) from exc
        except UnicodeDecodeError as exc:
            raise ConfigError(self.file, [Finding(f"is not UTF-8 text (byte {exc.start})")]) from exc
        except RecursionError as exc:
            raise ConfigError(self.file, [Finding("is nested too deep, or an anchor holds itself")]) from exc
        except yaml.MarkedYAMLError as exc:
            place = _place(exc.problem_mark or exc.context_mark) if exc.problem_mark or exc.context_mark else None
            raise ConfigError(self.file, [Finding(f"not valid YAML: {exc.problem or exc.context}", place)]) from exc
        except yaml.YAMLError as exc:
            raise ConfigError(self.file, [Finding("not valid YAML: it holds a character that YAML does not allow")]) from exc

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(self.file, [Finding(f"holds more than {MAX_NODES} values (anchors that repeat themselves?)")])
        self._places[path] = _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        value = loader.construct_object(node)
        return self._fill_in(value, path) if isinstance(value, str) else value

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value == "<<" or key.value not in seen:
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
                continue
            self.findings.append(Finding(f"the key `{key.value}` stands here twice", _place(key.start_mark)))
        merges = any(isinstance(key, yaml.ScalarNode) and key.value == "<<" for key, _ in node.value)
        if merges:
            loader.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.findings.append(Finding("a key must be a plain word", _place(key.start_mark)))
                continue
            if merges and key.value in data and key.value not in own:
                continue
            at = (*path, key.value)
            self._keys[at] = _place(key.start_mark)
            data[key.value] = self._value(loader, item, at)
        return data

    def _fill_in(self, text: str, path: Path_) -> str:
        """`${NAME}`, `${NAME:-default}`, `${file:PATH}`; `$$` is a dollar sign."""

        def replace(match: re.Match[str]) -> str:
            body = match["body"]
            if body is None:
                return "$"
            try:
                return self._variable(body)
            except ValueError as exc:
                self.findings.append(Finding(str(exc), self._places[path]))
                return ""

        return _VARIABLE.sub(replace, text)

    def _variable(self, body: str) -> str:
        if body.startswith("file:"):
            file = self._folder / Path(body.removeprefix("file:")).expanduser()
            try:
                return file.read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as exc:
                raise ValueError(f"the file of `${{{body}}}` cannot be read: {getattr(exc, 'strerror', 'it is not text')}") from exc
        name, has_default, default = body.partition(":-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"`${{{body}}}` is not a variable; write ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}, and $$ for a dollar sign")
        value = self._env.get(name)
        if has_default:
            return value or default
        if value is None:
            raise ValueError(f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}")
        return value


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def database_folder(url: str) -> Path:
    """The folder of a SQLite URL's file."""
    return Path(os.path.expanduser(url.removeprefix("sqlite:///"))).parent  # noqa: PTH111 - the URL is text
