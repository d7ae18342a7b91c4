"""From a file (or none) to checked settings. Every finding has its place and says what to do."""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from pydantic import BaseModel, ValidationError

from config.batches import batch_problems
from config.document import ConfigError, Document, Finding, Path_, shown
from config.engines import EngineSettings
from config.engines_checked import llamacpp_files, shared_gpus, vllm_files
from config.problem import Problem, problem
from config.processes import uncounted
from config.reachability import unreachable
from config.settings import ProviderSettings, Settings, StateSettings, TargetSettings
from config.values import SHAPES

__all__ = ["ConfigError", "Finding", "Known", "Loaded", "checked", "load", "posted", "shown"]

WITHOUT = "without a file"
POSTED = "policy"  # the name of what somebody sent
DEFAULT_ENGINE = "cpu"
DEFAULT_MODEL = "smollm2-135m-instruct"


class Known(msgspec.Struct, frozen=True):
    """What this build knows, told by the gateway: `provider_kinds` with each kind's key variable.

    `missing`: the settings that a provider of that kind needs beside its key and that are not given. `credentials_fault`: why its kind
    cannot be used with the credentials given; None: it can. `metered`: the kinds that charge by the token. `own_machine`: those that run on
    one's own. `priced`: whether the price of a kind's model is known. `base_url`: where a provider of a known kind is.
    `trained_tokens`: of prompt and answer, that the model of a llama.cpp engine was trained for; None: not known.
    """

    provider_kinds: Mapping[str, str | None]
    needs_url: frozenset[str]
    missing: Callable[[ProviderSettings], list[str]]
    credentials_fault: Callable[[ProviderSettings], str | None]
    builtin_models: frozenset[str]
    metered: frozenset[str]
    own_machine: frozenset[str]
    priced: Callable[[str, str], bool]
    base_url: Callable[[ProviderSettings], str]
    trained_tokens: Callable[[EngineSettings], int | None]


class Loaded(msgspec.Struct, frozen=True):
    """`key_report`: lines on which providers are on. `advice`: findings that do not stop the gateway; `turnout check` counts them.

    `notes`: what it only tells.
    """

    settings: Settings
    key_report: list[str]
    file: str = WITHOUT
    advice: list[Finding] = []
    notes: list[Finding] = []


def load(path: Path | None, env: Mapping[str, str], known: Known) -> Loaded:
    """Reads and checks a configuration; `path` None: what the environment's provider keys and the embedded engine give. Raises ConfigError."""
    if path is None:
        return _without_a_file(env, known)
    document = Document(path, env)
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as exc:
        raise ConfigError(document.file, _in_order([_finding(document, error) for error in _told(exc)])) from None
    problems = list(_Checker(settings, known, document.written).all())
    if all(each.advice or each.note for each in problems):
        problems += unreachable(settings, known.priced, known.base_url)
    problems += uncounted(settings)
    findings = _in_order([Finding(message, document.place(at, key=is_key), advice, note) for message, at, is_key, advice, note in problems])
    if faults := [finding for finding in findings if not (finding.advice or finding.note)]:
        raise ConfigError(document.file, faults)
    report = ["providers  " + (", ".join(settings.providers) or "none"), "engines    " + (", ".join(settings.engines) or "none")]
    return Loaded(settings, report, document.file, [each for each in findings if each.advice], [each for each in findings if each.note])


def posted(text: str) -> Any:
    """YAML or JSON that somebody sent, as plain data: no variable is filled in, no file is read. Raises ConfigError."""
    return Document(Path(POSTED), {}, text.replace("$", "$$").encode("utf-8", "surrogatepass")).data


def checked(data: Mapping[str, Any], known: Known) -> Settings:
    """Plain data, laid over settings that were loaded, as settings again. Raises ConfigError."""
    try:
        settings = Settings.model_validate(data)
    except ValidationError as exc:
        findings = [Finding(f"`{'.'.join(map(str, error['loc']))}`: {_words(error)}") for error in _told(exc)]
        raise ConfigError(POSTED, findings) from None
    faults = [Finding(each.message) for each in _Checker(settings, known, {}).all() if not (each.advice or each.note)]
    if faults:
        raise ConfigError(POSTED, faults)
    return settings


class _AllSet(dict[str, str]):
    """An environment in which every variable is set, if only to nothing."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, default or "")


def database_url(path: Path, env: Mapping[str, str]) -> str:
    """The ledger's URL alone, for reports: the rest of the file is not looked at, and its secrets need not be set. Raises ConfigError."""
    document = Document(path, _AllSet(env))
    state = document.data.get("state") if isinstance(document.data, dict) else None
    try:
        return StateSettings.model_validate(state or {}).database
    except ValidationError:
        raise ConfigError(document.file, [Finding("`state` cannot be used; `turnout check` says why", document.place(("state",)))]) from None


def names_in(path: Path, env: Mapping[str, str], section: str) -> list[str]:
    """What a section (`teams`, `providers`) lists; as little is asked of the file as by `database_url`. Raises ConfigError."""
    document = Document(path, _AllSet(env))
    listed = document.data.get(section) if isinstance(document.data, dict) else None
    return [str(name) for name in listed] if isinstance(listed, dict) else []


def _without_a_file(env: Mapping[str, str], known: Known) -> Loaded:
    engine = {"engine": DEFAULT_ENGINE}
    by_key = {
        kind: variable
        for kind, variable in known.provider_kinds.items()
        if variable and kind not in known.needs_url and not known.missing(ProviderSettings(kind=kind))
    }
    found = {kind: variable for kind, variable in by_key.items() if env.get(variable)}
    missing = [f"{variable} ({kind})" for kind, variable in by_key.items() if kind not in found]
    data = {
        "engines": {DEFAULT_ENGINE: {"kind": "llamacpp", "model": f"builtin:{DEFAULT_MODEL}"}},
        "providers": {kind: {"kind": kind, "api_key": env[variable]} for kind, variable in found.items()},
        "models": {
            "local": {"targets": [engine]},
            DEFAULT_MODEL: {"targets": [engine]},
            **{f"{kind}/*": {"targets": [{"provider": kind, "model": "*"}, engine]} for kind in found},
        },
    }
    report = ["found      " + (", ".join(f"{variable} ({kind}/*)" for kind, variable in found.items()) or "no provider key in the environment")]
    if missing:
        report.append("would add  " + ", ".join(missing))
    try:
        return Loaded(Settings.model_validate(data), report)
    except ValidationError as exc:  # only a key can be at fault
        faults = [Finding(f"the environment variable {found[str(error['loc'][1])]} {_words(error)}") for error in exc.errors(include_url=False)]
    raise ConfigError(WITHOUT, faults)


def _in_order(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.place.line, finding.place.column) if finding.place else (0, 0))


# --- shape -------------------------------------------------------------------------------------------------------------
WORDS = {
    "model_type": "must be a section: `key: value` lines",
    "dict_type": "must be a section: `key: value` lines",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
}
# what to write instead of a limit that nothing could keep within
INSTEAD = {
    **dict.fromkeys(("rpm", "tpm", "concurrency", "max_tokens_per_request"), "; take it out for no limit"),
    "usd": "; take the budget out for no limit",
    "max_usd_per_request": "; take it out for no limit, or set residency: local_only for engines alone",
}


def _told(error: ValidationError) -> list[Any]:
    """Its errors, without `too short` where only an entry's own error made the list so."""
    errors = error.errors(include_url=False)
    places = [e["loc"] for e in errors]
    return [e for e in errors if e["type"] != "too_short" or not any(at != e["loc"] and at[: len(e["loc"])] == e["loc"] for at in places)]


def _finding(document: Document, error: Any) -> Finding:
    path: Path_ = tuple(step for step in error["loc"] if step not in SHAPES)
    is_key = path[-1:] == ("[key]",)
    path = path[:-1] if is_key else path
    kind = error["type"]
    name = ".".join(map(str, path)) or "the file"
    if kind == "extra_forbidden":
        hint = suggestion(str(path[-1]), _fields_at(path[:-1]))
        return Finding(f"`{path[-1]}` is not a key of {'.'.join(map(str, path[:-1])) or 'the configuration'}{hint}", document.place(path, key=True))
    if kind == "missing":
        return Finding(f"`{name}` is missing", document.place(path[:-1], key=True))
    if is_key:
        return Finding(f"the name `{path[-1]}` is not allowed: {_words(error)}", document.place(path, key=True))
    values = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ") if kind == "literal_error" else []
    hint = suggestion(error["input"], values, or_all=False)
    if kind in ("greater_than", "greater_than_equal"):
        hint = INSTEAD.get(str(path[-1]), "")
    elif kind == "too_short" and path[-1:] == ("models",):
        hint = "; take it out to allow all"
    return Finding(f"`{name}`: {_words(error)}{hint}", document.place(path))


def _words(error: Any) -> str:
    if error["type"] == "too_short" and error["ctx"]["field_type"] == "Value":  # a secret's text
        return WORDS["string_too_short"]
    message = WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Input ")
    return message[:1].lower() + message[1:]


def suggestion(word: Any, known: Any, *, or_all: bool = True) -> str:
    """`; did you mean …?` when something known looks like the word, else (if wanted) what there is."""
    known = sorted(map(str, known))
    close = get_close_matches(word, known, 1, 0.6) if isinstance(word, str) else []
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known: {', '.join(known)}" if known and or_all else ""


def _fields_at(path: Path_) -> list[str]:
    """The keys that the section at a path takes."""
    section: Any = Settings
    for step in path:
        if isinstance(section, type) and issubclass(section, BaseModel):
            field = section.model_fields.get(str(step))
            section = _plain(field.annotation) if field else None
        else:  # dict[name, X] or tuple[X, ...]: a name or an index chooses nothing
            section = _section_in(section)
    section = _section_in(section)
    return list(section.model_fields) if section else []


def _plain(kind: Any) -> Any:
    """The section among what a value may be, unless it is one of a list or of names."""
    if get_origin(kind) in (dict, tuple):
        return kind
    parts = get_args(kind)
    return next((plain for part in parts if (plain := _plain(part)) is not None), None) if parts else kind if _section_in(kind) else None


def _section_in(kind: Any) -> type[BaseModel] | None:
    """The section that a type is or holds: X in `X`, `X | None`, `dict[name, X]`, `tuple[X, ...]` and `Annotated[X, …]`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((section for part in get_args(kind) if (section := _section_in(part))), None)


def _batch_fault(provider: ProviderSettings) -> str | None:
    """Why a provider's batches could not be used as its settings say."""
    told = provider.batch
    if told.bucket is None and told.role_arn is None:
        return None
    if provider.kind != "bedrock":
        return f"only Bedrock's batches have a bucket and a role, and this is `{provider.kind}`; take them out"
    if told.bucket is None or told.role_arn is None:
        return f"{'bucket' if told.bucket is None else 'role_arn'} is missing: a bucket and a role go together"
    if provider.credentials is None or provider.credentials.access_key_id is None:
        return "jobs are signed with an access key; name it in `credentials`"
    return None


# --- meaning -----------------------------------------------------------------------------------------------------------
class _Checker:
    """What types cannot say: that names refer to something, and that what belongs together is there."""

    def __init__(self, settings: Settings, known: Known, written: Mapping[Path_, str]) -> None:
        self.settings = settings
        self.known = known
        self.written = written

    def _unknown(self, what: str, value: str, known: Any, *at: str | int) -> Problem:
        """A value that a variable filled in is shown as it is written: it may be a secret in the wrong place."""
        return problem(f"there is no {what} `{self.written.get(at, value)}`{suggestion(value, known)}", *at)

    def all(self) -> Iterator[Problem]:
        yield from self._providers()
        yield from self._engines()
        yield from shared_gpus(self.settings)
        for name in self.settings.models:
            yield from self._model(name)
        yield from self._teams()
        yield from self._admin()
        yield from batch_problems(self.settings)
        if not self.settings.models:
            yield problem("`models` is missing: there is nothing that a client could ask for", advice=True)

    def _providers(self) -> Iterator[Problem]:
        kinds = self.known.provider_kinds
        for name, provider in self.settings.providers.items():
            if name in self.settings.engines:
                yield problem(f"`{name}` is the name of an engine too", "providers", name, key=True)
            if provider.kind not in kinds:
                yield self._unknown("kind", provider.kind, kinds, "providers", name, "kind")
            else:
                for lack in self._lacks(name, provider):
                    yield problem(f"`providers.{name}.{lack}", "providers", name, key=True)
                if fault := _batch_fault(provider):
                    yield problem(f"`providers.{name}.batch`: {fault}", "providers", name, "batch")
                if fault := self.known.credentials_fault(provider):
                    yield problem(f"`providers.{name}.credentials`: {fault}", "providers", name, "credentials")

    def _lacks(self, name: str, provider: ProviderSettings) -> Iterator[str]:
        """What a provider's kind needs and its settings do not have."""
        variable = self.known.provider_kinds[provider.kind]
        if provider.base_url is None and provider.kind in self.known.needs_url:
            yield f"base_url` is missing: the kind `{provider.kind}` has no URL of its own"
        for setting in self.known.missing(provider):
            yield f"{setting}` is missing: the kind `{provider.kind}` needs it"
        if variable and provider.credentials is None and not provider.keys:
            yield f'api_key` is missing; write api_key: "${{{variable}}}"'

    def _engines(self) -> Iterator[Problem]:
        for name, engine in self.settings.engines.items():
            for each in engine.each(name):
                if each != name and (each in self.settings.engines or each in self.settings.providers):
                    yield problem(f"its replica `{each}` has the name of another engine or provider", "engines", name, key=True)
            if engine.speaks == "vllm":
                yield from vllm_files(name, engine)
                continue
            prefix, colon, builtin = engine.model.partition(":")
            if colon and prefix == "builtin" and builtin not in self.known.builtin_models:
                names = [f"builtin:{known}" for known in self.known.builtin_models]
                yield self._unknown("built-in model", engine.model, names, "engines", name, "model")
                continue
            yield from llamacpp_files(name, engine, self.known.trained_tokens)

    def _model(self, name: str) -> Iterator[Problem]:
        settings = self.settings
        model = settings.models[name]
        if model.policy is not None and model.policy not in settings.policies:
            yield self._unknown("policy", model.policy, settings.policies, "models", name, "policy")
        for index, target in enumerate(model.targets):
            yield from self._target(name, target, ("models", name, "targets", index))

    def _target(self, name: str, target: TargetSettings, at: Path_) -> Iterator[Problem]:
        settings = self.settings
        if target.engine is not None:
            if target.engine not in settings.engines:
                yield self._unknown("engine", target.engine, settings.engines, *at, "engine")
            elif target.context is not None and target.context > settings.engines[target.engine].context:
                yield problem("is more than the engine's own `context`; make that larger", *at, "context")
            elif (engine := settings.engines[target.engine]).speaks == "vllm" and target.model not in (None, target.engine, *engine.adapters):
                yield self._unknown("adapter", target.model or "", engine.adapters, *at, "model")
            return
        provider = target.provider or ""
        if provider not in settings.providers:
            yield self._unknown("provider", provider, settings.providers, *at, "provider")
            return
        model = target.model or name
        if "*" in model:
            if "*" not in name:
                yield problem(f"`*` stands for what a pattern matched, and `{name}` is no pattern", *at, "model")
            return
        kind = settings.providers[provider].kind
        if target.price is None and kind not in self.known.own_machine and not self.known.priced(kind, model):
            metered = kind in self.known.metered
            shown_model, shown_provider = self.written.get((*at, "model"), model), self.written.get((*at, "provider"), provider)
            words = f"the price of `{shown_model}` at `{shown_provider}` is not known, so its cost would be null; add `price`"
            yield problem(words if metered else f"{words}, or `price: free` where nothing is paid", *at, advice=metered, note=not metered)

    def _teams(self) -> Iterator[Problem]:
        owners: dict[str, str] = {}
        for name, team in self.settings.teams.items():
            if team.policy is not None and team.policy not in self.settings.policies:
                yield self._unknown("policy", team.policy, self.settings.policies, "teams", name, "policy")
            if team.organisation is not None and team.organisation not in self.settings.organisations:
                yield self._unknown("organisation", team.organisation, self.settings.organisations, "teams", name, "organisation")
            for index, model in enumerate(team.models or ()):
                if model not in self.settings.models:
                    yield self._unknown("model", model, self.settings.models, "teams", name, "models", index)
            semantic = team.semantic_cache
            if semantic is not None and not any(fnmatchcase(semantic.embeddings, model) for model in self.settings.models):
                yield self._unknown("model", semantic.embeddings, self.settings.models, "teams", name, "semantic_cache", "embeddings")
            for index, key in enumerate(team.keys):
                other = owners.setdefault(key.get_secret_value(), name)
                if other != name:
                    yield problem(f"this key is one of team `{other}` too; a key stands for one team", "teams", name, "keys", index)

    def _admin(self) -> Iterator[Problem]:
        admin, teams = self.settings.admin, self.settings.teams
        if admin is None:
            return
        for name, team in teams.items():
            if admin.key is not None and admin.key in team.keys:
                yield problem(f"the key is one of team `{name}` too; the admin API's opens nothing else", "admin", "key")
        for value, owned in ({} if admin.oidc is None else admin.oidc.team_owners).items():
            for index, owns in enumerate(owned):
                if owns not in teams:
                    yield self._unknown("team", owns, teams, "admin", "oidc", "team_owners", value, index)
