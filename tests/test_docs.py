"""The site: it builds strictly, loads nothing from elsewhere, and the pages made from the code are complete."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from wm_bridge.cli import bench, commands, doctor_troubles
from wm_bridge.core.goal import Outcome
from wm_bridge.core.types import Reason, SafetyMode
from wm_bridge.docs import main, mathml, messages, pages, parameters, settings, tables
from wm_bridge.errors import UserError
from wm_bridge.ros import params, qos
from wm_bridge.safety.config import GROUPS, SafetyConfig
from wm_planner.config import PlannerConfig, TrainConfig


PARTS = ("Request", "Response", "Goal", "Result", "Feedback")  # of a service or an action


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    return pages.site(ROOT)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    main.build(ROOT, out)
    return out


# ---- the real build -------------------------------------------------------------------


def test_the_site_builds_and_loads_nothing_from_elsewhere(built: Path, site: dict[str, str]) -> None:
    for page in site:
        html = (built / page).with_suffix(".html").read_text()
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)|<link[^>]* href="([^"]+)', html)
        assert loaded and not [address for pair in loaded for address in pair if re.match(r"(https?:)?//", address)], page
    for sheet in built.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_equations_become_mathml(built: Path) -> None:
    html = (built / "how-it-works.html").read_text()
    assert html.count("<math ") >= 15 and "```" not in html and "math>\\" not in html


def small_site(folder: Path, *texts: str) -> Path:
    """A site with the checks of ours, and pages a.md, b.md ... of these texts."""
    config = re.sub(r"(?ms)^(nav|hooks|watch|not_in_nav|extra_css):.*?(?=^\S|\Z)", "", (ROOT / "mkdocs.yml").read_text())
    (folder / "mkdocs.yml").write_text(config)
    (folder / "docs").mkdir()
    for name, text in zip("ab", texts, strict=False):
        (folder / "docs" / f"{name}.md").write_text(text)
    return folder


@pytest.mark.parametrize("link", ["b.md#nowhere", "c.md", "#nowhere", "/b.md"])
def test_a_link_or_anchor_that_leads_nowhere_is_an_error(tmp_path: Path, link: str) -> None:
    pytest.importorskip("mkdocs")
    with pytest.raises(UserError, match="not built"):
        main.build(small_site(tmp_path, f"# A\n[x]({link})", "# B"), tmp_path / "out")


@pytest.mark.parametrize("wrong", ["\\frac{1}{2", "a + \\nosuch b", "\\left( a"])
def test_an_equation_that_cannot_be_read_is_refused(wrong: str) -> None:
    superfences = pytest.importorskip("pymdownx.superfences")
    assert "<mfrac>" in mathml.block("\\frac{1}{2}")
    with pytest.raises(superfences.SuperFencesException, match="no equation"):
        mathml.block(wrong)


def test_such_an_equation_ends_the_build(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    with pytest.raises(UserError, match="no equation"):
        main.build(small_site(tmp_path, "# A\n```math\n\\frac{1}{2\n```"), tmp_path / "out")


# ---- links of the repository and of the site -------------------------------------------


def slug(heading: str) -> str:
    """Anchor of a heading, as code hosts and our site make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")


def test_every_anchor_of_a_link_is_a_heading() -> None:
    for file in [ROOT / name for name in pages.HOME] + sorted((ROOT / "docs").rglob("*.md")):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", file.read_text()):
            other = (file.parent / target).resolve() if target else file
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.M)
            assert anchor in map(slug, headings), f"{file.name}: {target}#{anchor}"


def test_links_of_the_repository_become_links_of_the_site(site: dict[str, str]) -> None:
    assert "](quick-start.md)" in site["index.md"] and "](examples.md)" in site["index.md"]
    assert "](reference/safety-settings.md)" in site["own-arm.md"] and "](reference/topics.md)" in site["contracts.md"]
    assert "](images/demo" in site["index.md"] and not re.search(r"\]\((\.\./)*(src|config|examples)/", "".join(site.values()))


def test_a_link_of_the_repository_that_leads_nowhere_names_its_page(tmp_path: Path) -> None:
    for name in pages.HOME:
        (tmp_path / name).write_text("# A\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n```\n[code](is-no-link.md)\n```\n[x](../README.md) [y](gone.md)\n")
    with pytest.raises(UserError, match=r"docs/a.md: gone.md leads nowhere") as error:
        pages.site(tmp_path)
    assert "is-no-link" not in str(error.value)


# ---- pages made from the code ----------------------------------------------------------


def test_every_declared_parameter_is_on_its_page_with_description_and_unit(site: dict[str, str]) -> None:
    page = site["reference/parameters.md"]
    declared = {}
    for file in sorted((ROOT / "src" / "wm_bridge").rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            assert name not in ("declare_parameter", "declare_parameters") or file.parent.name == "bench" or file.name == "params.py", file
            if name == "declare" and file.parent.name == "nodes":
                declared[file.stem] = call.args[1].id  # type: ignore[attr-defined]
    assert {name: kind.__name__ for name, kind in parameters.nodes().items()} == declared
    for name, kind in parameters.nodes().items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for field in dataclasses.fields(kind):
            default = field.metadata["default"]
            number = not isinstance(default, (bool, str)) and not (isinstance(default, list) and isinstance(default[0], str))
            assert f"| `{field.name}` |" in section and len(field.metadata["help"]) > 5, f"{name}.{field.name}: describe it"
            assert bool(params.unit_of(field)) == number, f"{name}.{field.name}: a number needs a unit, and nothing else does"


def test_the_parameter_page_shows_what_the_graph_sets(site: dict[str, str]) -> None:
    assert re.search(r"\| `rate_hz` \|[^\n]*\| float \| `15` \| sim `20`, robot `30`, replay `30` \| Hz \| 0.5 to 120 \|", site["reference/parameters.md"])


def test_every_field_of_every_message_is_on_its_page(site: dict[str, str]) -> None:
    files = [file for file in (ROOT / messages.PACKAGE).glob("*/*.*") if file.suffix in (".msg", ".srv", ".action")]
    kinds = [getattr(importlib.import_module(f"wm_interfaces.{file.parent.name}"), file.stem) for file in files]
    seen = 0
    for kind in kinds:
        for part in [getattr(kind, name) for name in PARTS if hasattr(kind, name)] or [kind]:
            section = re.split(r"\n##", site["reference/messages.md"].split(f"\n### {kind.__name__}\n")[1])[0]
            for name in part.get_fields_and_field_types():
                assert f"| `{name}` |" in section, f"{kind.__name__}.{name}"
                seen += 1
    assert seen > 100 and "`REPLAYED` | 64" in site["reference/messages.md"]


def test_every_field_and_constant_of_a_message_says_what_it_is() -> None:
    files = [file for file in (ROOT / messages.PACKAGE).glob("*/*.*") if file.suffix in (".msg", ".srv", ".action")]
    entries = [(file.name, entry) for file in files for part in messages.read(file) for group in part for entry in group.entries]
    assert len(entries) > 150
    assert [f"{name}: {entry.name}" for name, entry in entries if len(entry.comment) < 2] == [], "say unit, frame and meaning behind it"


def test_a_line_that_is_no_field_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Odd.msg").write_text("# What it is\nfloat64 x    # m\nfloat64\n")
    with pytest.raises(ValueError, match="Odd.msg, line 3"):
        messages.read(tmp_path / "Odd.msg")


def test_every_safety_setting_is_explained_and_has_the_value_of_the_file(site: dict[str, str]) -> None:
    text = (ROOT / "config" / "safety.yaml").read_text()
    found = {s.name: (s, caption) for caption, block in settings.read(text) for s in block}
    names = [f"{f.name}.{inner.name}" if f.name in GROUPS else f.name for f in dataclasses.fields(SafetyConfig) for inner in (dataclasses.fields(GROUPS[f.name]) if f.name in GROUPS else (f,))]
    assert sorted(found) == sorted(names)
    values = yaml.safe_load(text)
    for name, (setting, caption) in found.items():
        group, _, key = name.rpartition(".")
        assert yaml.safe_load(setting.value) == (values[group] if group else values)[key], name
        assert setting.comment or caption, f"{name}: say what it does behind the key"
        assert f"| `{name}` |" in site["reference/safety-settings.md"]


@pytest.mark.parametrize("kind", [PlannerConfig, TrainConfig])
def test_every_setting_of_search_and_training_is_explained(kind: type) -> None:
    assert set(settings.described(kind)) == {field.name for field in dataclasses.fields(kind)}


def test_topics_commands_and_benchmarks_are_all_there(site: dict[str, str]) -> None:
    assert all(f"| `{row.name}` |" in site["reference/topics.md"] for row in qos.TOPICS)
    assert all(f"| `./wm {name}` |" in site["reference/commands.md"] for name in commands.COMMANDS)
    assert all(f"| `./wm bench {name}` |" in site["reference/commands.md"] for name in bench.BENCHES)


def test_whatever_the_doctor_can_say_is_in_its_table(site: dict[str, str]) -> None:
    table = tables.doctor_table()
    source = "".join((ROOT / "src/wm_bridge/cli" / name).read_text() for name in ("doctor.py", "doctor_checks.py"))
    for call in (node for node in ast.walk(ast.parse(source.replace("from __future__ import annotations", ""))) if isinstance(node, ast.Call)):
        if getattr(call.func, "id", "") == "Finding":
            assert len(call.args) == 3 and not call.keywords, "a finding with a remedy comes from doctor_troubles"
    names = [name for name, value in vars(doctor_troubles).items() if isinstance(value, doctor_troubles.Trouble)]
    assert len(names) == len(doctor_troubles.TROUBLES) == table.count(" | warn | ") + table.count(" | fail | ")
    assert all(re.search(rf"\b{name}\b", source) for name in names)
    assert "neither backend draws: ..." in site["troubleshooting.md"] and "<!--" not in site["troubleshooting.md"]


def test_troubleshooting_names_every_reason_mode_and_outcome() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = text.split("## What the safety node says")[1]
    assert [reason.name for reason in Reason if not re.search(rf"^\|[^|]*\b{reason.name}\b", rows, re.M)] == []
    assert all(mode.name in rows for mode in SafetyMode)
    assert all(re.search(rf"^\| outcome [^|]*{outcome.name}", text, re.M) for outcome in Outcome if outcome is not Outcome.REACHED)


def test_every_example_is_on_its_page(site: dict[str, str]) -> None:
    for file in (ROOT / "examples").glob("*.py"):
        assert f"\n## {file.stem}\n" in site["examples.md"] and f'"examples/{file.name}"' in site["examples.md"]
