"""F1, F2, F3, W2, C4, C15: settings, their defaults and profiles, their order, and what is said about bad ones."""

from __future__ import annotations

import copy
import json
import pickle
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from midasdl.config import Settings, from_environment, from_file, resolution, resolve
from midasdl.config.keys import known_keys, lay_over, leaves, tree_of
from midasdl.config.meanings import meaning_of
from midasdl.config.profiles import GOVERNED, PROFILES, PURPOSES
from midasdl.config.recording import from_record, to_record
from midasdl.config.resolution import Layer, put_together, with_profile
from midasdl.config.template import as_file, template
from midasdl.errors import ConfigurationError, ExitCode
from midasdl.politeness.limiter import limits_from

DEFAULTS = {
    "performance.profile": "balanced",
    "performance.batching.prefetch_count": 50,
    "performance.circuit_breaker.enabled": True,
    "performance.circuit_breaker.failure_threshold": 5,
    "performance.circuit_breaker.success_threshold": 2,
    "performance.circuit_breaker.timeout_seconds": 60,
    "performance.cache.verification_enabled": True,
    "performance.cache.verification_sample_rate": 1.0,
    "performance.cache.parallel_directory_creation": True,
    "performance.cache.temp_file_directory": None,
    "performance.memory.max_memory_percent": 50,
    "performance.workers.count": 4,
    "performance.workers.restart_on_failure": True,
    "performance.workers.restart_delay_ms": 5000,
    "performance.batching.channel_buffer_size": 100,
    "performance.ceda_client.max_concurrent_requests": 3,
    "performance.ceda_client.request_timeout_seconds": 300,
    "performance.ceda_client.connection_timeout_seconds": 30,
    "performance.ceda_client.min_request_spacing_ms": 100,
    "performance.ceda_client.backoff.max_retries": 3,
    "performance.ceda_client.backoff.base_backoff_ms": 1000,
    "performance.ceda_client.backoff.max_backoff_seconds": 300,
    "performance.ceda_client.backoff.multiplier": 2.0,
    "performance.ceda_client.backoff.jitter_factor": 0.1,
    "performance.memory.max_file_size_in_memory": 104857600,
    "ceda.archive_url": "https://dap.ceda.ac.uk/badc/ukmo-midas-open",
    "ceda.listing_url": "https://data.ceda.ac.uk/badc/ukmo-midas-open",
    "ceda.token_url": "https://services.ceda.ac.uk/api/token/create/",
    "storage.duplicates": "hardlink",
    "storage.min_free_bytes": 64_000_000,
}
LARGER_THAN_ASKED = {
    "performance.batching.manifest_batch_size": 100,
    "performance.memory.download_chunk_size": 8192,
}


def value_of(settings: BaseModel, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def tree(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def refused(*layers: dict[str, Any]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        resolve(*layers)
    assert raised.value.exit_code is ExitCode.USAGE
    assert "docs/configuration.md" in str(raised.value.hint)
    return raised.value


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items())
def test_f1_a_key_has_the_default_of_the_specification(key: str, default: object) -> None:
    assert value_of(Settings(), key) == default


@pytest.mark.parametrize(("key", "default"), LARGER_THAN_ASKED.items())
def test_f1_a_default_that_may_be_larger_is_not_smaller(key: str, default: int) -> None:
    assert value_of(Settings(), key) >= default


def test_f1_every_key_is_described() -> None:
    def undescribed(model: type[BaseModel]) -> list[str]:
        names = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names += undescribed(kind)
            elif not meaning_of(model, name):
                names.append(f"{model.__name__}.{name}")
        return names

    assert undescribed(Settings) == []


# --- order


def test_f3_command_line_beats_environment_beats_recorded_beats_default() -> None:
    key = "performance.workers.count"
    line, environment, recorded = (
        tree(key, 7),
        from_environment({"MIDASDL_PERFORMANCE__WORKERS__COUNT": "6"}),
        tree(key, 5),
    )
    assert value_of(resolve(line, environment, recorded), key) == 7
    assert value_of(resolve({}, environment, recorded), key) == 6
    assert value_of(resolve({}, {}, recorded), key) == 5
    assert value_of(resolve({}, {}, {}), key) == 4


def test_f3_layers_are_laid_over_each_other_key_by_key() -> None:
    settings = resolve(
        tree("performance.ceda_client.backoff.max_retries", 9),
        tree("performance.ceda_client.min_request_spacing_ms", 8),
        {"performance": {"ceda_client": {"backoff": {"max_retries": 1, "multiplier": 3.0}}}},
    )
    client = settings.performance.ceda_client
    assert (client.backoff.max_retries, client.backoff.multiplier, client.min_request_spacing_ms) == (
        9,
        3.0,
        8,
    )


def test_f3_laying_over_leaves_every_layer_as_it_was() -> None:
    layers = [tree("performance.workers.count", number) for number in (1, 2, 3)]
    before = copy.deepcopy(layers)
    resolve(*layers)
    assert layers == before


def test_f3_the_environment_sets_any_key_and_lists_nothing_else() -> None:
    environment = {
        "MIDASDL_PERFORMANCE__CEDA_CLIENT__BACKOFF__JITTER_FACTOR": "0.5",
        "MIDASDL_PERFORMANCE__WORKERS__RESTART_ON_FAILURE": "false",
        "MIDASDL_STORAGE__TOKEN_CACHE": "/somewhere",
        "MIDASDL_LEDGER": "x.db",
        "PATH": "/bin",
        "CEDA_TOKEN": "t",
    }
    assert from_environment(environment) == {
        "performance": {
            "ceda_client": {"backoff": {"jitter_factor": "0.5"}},
            "workers": {"restart_on_failure": "false"},
        },
        "storage": {"token_cache": "/somewhere"},
    }
    settings = resolve(from_environment(environment))
    assert settings.performance.ceda_client.backoff.jitter_factor == 0.5
    assert settings.performance.workers.restart_on_failure is False
    assert settings.storage.token_cache == Path("/somewhere")


def test_f3_every_key_can_be_set_through_the_environment() -> None:
    defaults = Settings()
    for key in known_keys(Settings):
        name = "MIDASDL_" + key.upper().replace(".", "__")
        default = value_of(defaults, key)
        value = Path("/somewhere") if default is None else default
        given = from_environment({name: "[]" if value == () else str(value)})
        assert value_of(resolve(given), key) == value, key


def test_f3_a_file_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "midasdl.toml"
    path.write_text("[performance.workers]\ncount = 2\n")
    assert from_file(path) == {"performance": {"workers": {"count": 2}}}
    path.write_text("[performance\n")
    with pytest.raises(ConfigurationError, match=re.escape(f"{path} is not TOML")):
        from_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=re.escape(f"{path} is not TOML")):
        from_file(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        from_file(tmp_path / "none.toml")


# --- refusals


@pytest.mark.parametrize(
    ("layer", "suggestion"),
    [
        (tree("performance.workers.cuont", 3), "performance.workers.count"),
        (tree("performance.worker", {"count": 3}), "performance.workers.count"),
        (tree("ceda.archive_uri", "x"), "ceda.archive_url"),
        (tree("performance.ceda_client.backoff.max_retry", 1), "performance.ceda_client.backoff.max_retries"),
    ],
)
def test_f3_an_unknown_key_is_an_error_that_suggests_a_near_one(
    layer: dict[str, Any], suggestion: str
) -> None:
    assert f"is not a setting (did you mean {suggestion}?)" in refused(layer).message


def test_f3_an_unknown_key_like_no_other_is_refused_without_a_guess() -> None:
    message = refused({"zebra": 1}).message
    assert "zebra is not a setting" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("performance.workers.count", 0, "greater than or equal to 1"),
        ("performance.workers.count", 65, "less than or equal to 64"),
        ("performance.workers.count", "many", "integer"),
        ("performance.workers.count", 2.5, "integer"),
        ("performance.ceda_client.request_timeout_seconds", 0, "greater than 0"),
        ("performance.ceda_client.request_timeout_seconds", float("nan"), "86400"),
        ("performance.ceda_client.connection_timeout_seconds", float("inf"), "3600"),
        ("performance.ceda_client.backoff.multiplier", 0.5, "greater than or equal to 1"),
        ("performance.ceda_client.backoff.jitter_factor", 1.5, "less than or equal to 1"),
        ("storage.duplicates", "symlink", "hardlink|reflink|copy"),
    ],
)
def test_f3_a_bad_value_is_an_error_that_names_key_value_and_range(
    key: str, value: object, bound: str
) -> None:
    message = refused(tree(key, value)).message
    assert f"{key} = {value!r}" in message
    assert bound in message


def test_f3_all_errors_are_told_together() -> None:
    message = refused(
        tree("performance.workers.count", 0), tree("ceda.archive_url", "ftp://x"), tree("storage.dup", "x")
    ).message
    for key in ("performance.workers.count", "ceda.archive_url", "storage.dup"):
        assert key in message


@pytest.mark.parametrize("key", ["ceda.archive_url", "ceda.listing_url", "ceda.token_url"])
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://dap.ceda.ac.uk/x", True),
        ("http://127.0.0.1:8000/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:8000/x", True),
        ("http://dap.ceda.ac.uk/x", False),
        ("http://localhost.example.org/x", False),
        ("http://127.0.0.1@example.org/x", False),
        ("http://10.0.0.1/x", False),
        ("ftp://dap.ceda.ac.uk/x", False),
        ("dap.ceda.ac.uk/x", False),
        ("", False),
    ],
)
def test_c4_plain_http_is_for_this_machine_alone(key: str, url: str, allowed: bool) -> None:
    if allowed:
        assert value_of(resolve(tree(key, url)), key) == url
    else:
        assert key in refused(tree(key, url)).message


def test_c4_a_slash_at_the_end_of_the_archives_url_makes_no_difference() -> None:
    assert resolve(tree("ceda.archive_url", "https://x.org/a//")).ceda.archive_url == "https://x.org/a"
    assert resolve(tree("ceda.token_url", "https://x.org/a/")).ceda.token_url == "https://x.org/a/"


# --- data


def test_f4_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.performance.workers.count = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.ceda = settings.ceda  # type: ignore[misc]
    assert hash(settings) == hash(Settings())


def test_f4_settings_travel_to_workers_and_come_back_from_the_ledger() -> None:
    settings = resolve(tree("performance.workers.count", 7), tree("storage.token_cache", "/somewhere"))
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert resolve(settings.model_dump(mode="json")) == settings


def test_f4_settings_are_put_together_without_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDASDL_PERFORMANCE__WORKERS__COUNT", "9")
    assert resolve().performance.workers.count == 4


# --- layers, profiles, origins


def layers(**trees: dict[str, Any]) -> list[Layer]:
    return [Layer(name, each) for name, each in trees.items()]


COUNT = "performance.workers.count"
SPACING = "performance.ceda_client.min_request_spacing_ms"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("conservative", (2, 1, 500, 5, 3)),
        ("balanced", (4, 3, 100, 3, 5)),
        ("aggressive", (8, 6, 50, 2, 10)),
        ("development", (1, 1, 100, 3, 5)),
        ("custom", (4, 3, 100, 3, 5)),
    ],
)
def test_f2_a_profile_sets_what_the_specification_says(profile: str, expected: tuple[int, ...]) -> None:
    performance = resolve(tree("performance.profile", profile)).performance
    assert (
        performance.workers.count,
        performance.ceda_client.max_concurrent_requests,
        performance.ceda_client.min_request_spacing_ms,
        performance.ceda_client.backoff.max_retries,
        performance.circuit_breaker.failure_threshold,
    ) == expected
    assert performance.profile == profile


def test_f2_development_keeps_all_moves_and_reads_every_file_again() -> None:
    settings = resolve(tree("performance.profile", "development"))
    assert settings.history.keep == "all"
    assert settings.performance.cache.verification_sample_rate == 1.0


def test_f2_profiles_name_known_keys_and_values_that_may_be_given() -> None:
    assert set(known_keys(Settings)) >= GOVERNED
    assert tuple(PROFILES) == tuple(PURPOSES)
    for values in PROFILES.values():
        assert leaves(resolve(tree_of(values)).model_dump(), Settings).items() >= dict(values).items()


@pytest.mark.parametrize("profile", PROFILES)
def test_c15_no_profile_and_no_value_over_it_lets_more_than_16_requests_into_ceda(profile: str) -> None:
    for values in ({}, {"performance.ceda_client.max_concurrent_requests": 1000}):
        client = resolve(tree("performance.profile", profile), tree_of(values)).performance.ceda_client
        assert (limits_from(client, "dap.ceda.ac.uk").most or 99) <= 16


@pytest.mark.parametrize("place_of_profile", ["line", "environment", "file"])
@pytest.mark.parametrize("place_of_key", ["line", "environment", "file"])
def test_f2_a_key_that_is_given_anywhere_beats_the_profile(place_of_profile: str, place_of_key: str) -> None:
    given: dict[str, dict[str, Any]] = {"line": {}, "environment": {}, "file": {}}
    lay_over(given[place_of_profile], tree("performance.profile", "conservative"))
    lay_over(given[place_of_key], tree(COUNT, 7))
    resolved = put_together(layers(**given))
    assert (resolved.settings.performance.workers.count, resolved.origins[COUNT]) == (7, place_of_key)
    assert resolved.origins[SPACING] == "profile conservative"
    assert resolved.origins["performance.profile"] == place_of_profile
    assert resolved.origins["run.server_patience_seconds"] == "default"


def test_f3_the_topmost_profile_holds() -> None:
    settings = resolve(tree("performance.profile", "conservative"), tree("performance.profile", "aggressive"))
    assert settings.performance.workers.count == 2


def test_f2_another_profile_takes_the_place_of_the_first_and_what_was_given_stays() -> None:
    """Also where a key was given the value that its profile has anyway; also after the way to a worker."""
    settings = pickle.loads(pickle.dumps(resolve(tree(COUNT, 4), tree("storage.duplicates", "copy"))))
    faster = with_profile(settings, "aggressive")
    assert (faster.performance.workers.count, faster.performance.ceda_client.max_concurrent_requests) == (
        4,
        6,
    )
    assert faster.storage.duplicates == "copy"
    assert with_profile(faster, "balanced") == settings
    made_by_hand = Settings.model_validate(tree(COUNT, 3))
    assert with_profile(made_by_hand, "conservative").performance.workers.count == 3


def test_w2_a_recorded_run_keeps_its_settings_whatever_profiles_are_today(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The settings of a run stand in its ledger as they were, with what was given marked as such."""
    settings = resolve(tree("performance.profile", "conservative"), tree(COUNT, 6))
    record = json.loads(json.dumps(to_record(settings)))
    monkeypatch.setattr(resolution, "PROFILES", {**PROFILES, "conservative": {SPACING: 1}})
    given, rest = from_record(record)
    resumed = put_together([Layer("last run", given)], Layer("last run", rest))
    assert resumed.settings == settings
    assert resumed.origins[SPACING] == "last run"
    assert to_record(resumed.settings) == record


def test_w2_a_profile_named_for_resume_replaces_the_recorded_one_and_spares_what_was_given() -> None:
    given, rest = from_record(to_record(resolve(tree("performance.profile", "conservative"), tree(COUNT, 6))))
    resumed = put_together(
        [Layer("line", tree("performance.profile", "aggressive")), Layer("last run", given)],
        Layer("last run", rest),
    )
    assert resumed.settings.performance.workers.count == 6
    assert resumed.settings.performance.ceda_client.min_request_spacing_ms == 50


def test_w2_runs_of_an_older_midasdl_are_understood() -> None:
    """They did not say what was given, and the token's folder stood in another section."""
    record = Settings().model_dump(mode="json")
    record["ceda"]["token_cache"] = "/somewhere"
    record["performance"]["workers"]["count"] = 7
    del record["storage"]["token_cache"], record["performance"]["profile"], record["performance"]["cache"]
    given, rest = from_record(record)
    assert given == {
        "performance": {"workers": {"count": 7}},
        "storage": {"token_cache": "/somewhere"},
    }
    resumed = put_together([Layer("last run", given)], Layer("last run", rest)).settings
    assert resumed.storage.token_cache == Path("/somewhere")
    assert resumed.performance.workers.count == 7
    assert from_record({}) == ({}, {})


# --- everything that is wrong, together


def test_f3_faults_of_all_kinds_are_told_at_once_with_where_they_stand_and_what_is_allowed() -> None:
    with pytest.raises(ConfigurationError) as raised:
        put_together(
            layers(
                environment=from_environment({"MIDASDL_PERFORMANCE__WORKERS__COUNT": "99"}),
                file=tree_of(
                    {
                        "performance.workers.cuont": 3,
                        "performance.profile": "balnced",
                        "performance.ceda_client.backoff.base_backoff_ms": 9000,
                        "performance.ceda_client.backoff.max_backoff_seconds": 5,
                    }
                ),
            )
        )
    lines = raised.value.message.splitlines()[1:]
    assert len(lines) == 4
    told = "\n".join(sorted(lines))
    assert "performance.workers.count = '99': Input should be less than or equal to 64" in told
    assert "(allowed: 1 to 64) [environment]" in told
    assert (
        "performance.workers.cuont is not a setting (did you mean performance.workers.count?) [file]" in told
    )
    assert "(allowed: conservative, balanced, aggressive, development, custom) [file]" in told
    assert "base_backoff_ms = 9000 with " in told
    assert "max_backoff_seconds = 5: the first wait is longer than the longest" in told


def test_f3_a_key_that_stands_in_another_section_is_found_there() -> None:
    assert "did you mean storage.token_cache?" in refused(tree("ceda.token_cache", "x")).message


# --- files


def test_f3_the_file_to_begin_from_has_every_key_and_changes_nothing() -> None:
    """As it is it gives nothing; with every key switched on it gives the defaults."""
    text = template()
    assert leaves(tomllib.loads(text), Settings) == {}
    switched_on = re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)
    assert sorted(leaves(tomllib.loads(switched_on), Settings)) == sorted(known_keys(Settings))
    assert resolve(tomllib.loads(switched_on)) == Settings()
    assert max(map(len, text.splitlines())) <= 120
    assert "](" not in text, "links lead nowhere here"
    example = text.split("# For example: ", 1)[1].splitlines()[0]
    assert resolve({"performance": tomllib.loads(example)}).performance.schedule[0].days == ("mon", "fri")


def test_f3_what_is_shown_is_a_file_that_gives_the_same_settings() -> None:
    settings = resolve(tree("performance.profile", "aggressive"), tree("network.ca_bundle", '/a "b"/ü'))
    assert resolve(tomllib.loads(as_file(settings))) == settings
    with_origins = as_file(settings, dict.fromkeys(known_keys(Settings), "here"))
    assert resolve(tomllib.loads(with_origins)) == settings
    assert with_origins.count("# here") == len(known_keys(Settings))
