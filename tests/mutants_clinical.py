"""Plants faults in the clinical tables and rules, one at a time, in a copy of the sources, and counts those that the tests catch.

`python -m tests.mutants_clinical [NUMBER ...]`; exit 1 when a fault survives. The tests are files of those that `make test` runs,
chosen as it chooses them, so a fault that is caught here fails it. Worked cases outside the repository are left out, so what is
caught here is caught by everyone's tests. Not collected by pytest: it runs the tests some forty times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import fhir.resources.R4B.bundle  # noqa: F401 (the libraries of the tests are loaded once, in the parent)
import jinja2  # noqa: F401
import numpy as np  # noqa: F401
import pydantic  # noqa: F401
import pytest
import rich.console  # noqa: F401
import typer  # noqa: F401
import yaml  # noqa: F401

OURS = {"configs", "dicom_io", "models", "inference", "training", "service", "tests"}
ROOT = Path(__file__).resolve().parent.parent
PARTS = ("configs", "dicom_io", "inference", "models", "pyproject.toml", "tests/__init__.py", "tests/conftest.py")
TESTS = (
    "test_correlate_golden",
    "test_triage",
    "test_correlate",
    "test_exam",
    "test_narrate",
    "test_clinical_files",
    "test_clinical_refusals",
    "test_second_read",
    "test_priors",
    "test_languages",
    "test_site_numbers",
    "test_exam_versions",
    "test_rules_named",
    "test_roots_drawing",
    "test_fhir",
)
"""The tests of properties are left out: they would only make the run longer."""


@dataclass(frozen=True)
class Fault:
    """One planted fault: what it is, where, the text before and after, and the tests that are asked first."""

    what: str
    file: str
    old: str
    new: str
    first: str = "test_correlate_golden"


_C, _I = "configs/clinical", "inference"
FAULTS = (
    Fault(
        "a finding acts on the other side",
        f"{_I}/imaging_findings.py",
        'if self.side == "left":\n                return ("left",)',
        'if self.side == "left":\n                return ("right",)',
    ),
    Fault(
        "the traversing root one level up",
        f"{_C}/routes.toml",
        "subarticular = { L5 = 1.0, S1 = 0.15 }",
        "subarticular = { L4 = 1.0, L5 = 0.15 }",
    ),
    Fault(
        "the exiting root swapped for the traversing",
        f"{_C}/routes.toml",
        "foraminal = { L5 = 1.0 }",
        "foraminal = { S1 = 1.0 }",
    ),
    Fault(
        "a free way out speaks for its root",
        f"{_C}/model.toml",
        "ratio_way_out_free = 0.35",
        "ratio_way_out_free = 2.85",
    ),
    Fault("a rule is lost: weakness under anticoagulation", f"{_I}/triage.py", '    "TR-13": _tr13,\n', ""),
    Fault("a rule is lost: open safety items", f"{_I}/triage.py", '    "TR-18": _tr18,\n', ""),
    Fault(
        "a blank onset is read as old",
        f"{_I}/clinical_signs.py",
        "return self.onset_days is None or self.onset_days <= days",
        "return self.onset_days is not None and self.onset_days <= days",
    ),
    Fault(
        "a blank muscle is read as full",
        f"{_I}/clinical_patterns.py",
        'return self.states.get(f"mrc.{muscle}") == "normal"',
        'return self.states.get(f"mrc.{muscle}", "normal") == "normal"',
    ),
    Fault(
        "a blanket statement fills every group",
        f"{_I}/clinical_signs.py",
        'or not groups & {field.attest, "all"}',
        "or not groups",
        first="test_exam",
    ),
    Fault("a blanket statement counts fully", f"{_C}/model.toml", "attested = 0.6", "attested = 1.0"),
    Fault(
        "a later edit lowers the tier",
        f"{_I}/triage.py",
        "tier = min([*tiers, earlier]",
        "tier = max([*tiers, earlier]",
    ),
    Fault(
        "the least urgent rule decides",
        f"{_I}/triage.py",
        "if earlier is not None else tiers, key=TIERS.index)",
        "if earlier is not None else tiers, key=lambda t: -TIERS.index(t))",
    ),
    Fault(
        "a decimal slips: hip abduction under L5",
        f"{_C}/matrix.toml",
        "L4 = 0.1, L5 = 0.7, S1 = 0.12, CPN = 0.03",
        "L4 = 0.1, L5 = 0.07, S1 = 0.12, CPN = 0.03",
    ),
    Fault(
        "the peroneal nerve moves the hip",
        f"{_C}/matrix.toml",
        "L4 = 0.1, L5 = 0.7, S1 = 0.12, CPN = 0.03",
        "L4 = 0.1, L5 = 0.7, S1 = 0.12, CPN = 0.7",
    ),
    Fault(
        "findings on the wrong side are not told",
        f"{_I}/clinical_verdicts.py",
        'rules = (*rules, "V-07")',
        "rules = (*rules,)",
    ),
    Fault("the nerve at the fibular head is forgotten", f"{_I}/clinical_verdicts.py", 'caps.append("CAP-06")', "pass"),
    Fault("an operated level is judged like another", f"{_I}/clinical_verdicts.py", "if finding.post_op:", "if False:"),
    Fault(
        "a withheld finding is dismissed",
        f"{_I}/clinical_verdicts.py",
        'return Judged(finding, None, reached, "indeterminate", ("CAP-01",)',
        'return Judged(finding, None, reached, "does_not_explain", ("CAP-01",)',
    ),
    Fault(
        "scoliosis narrows the concave side",
        f"{_I}/roots.py",
        "imaging.scoliosis_convex == side",
        "imaging.scoliosis_convex not in (None, side)",
    ),
    Fault(
        "a fragment that moved up presses the root below",
        f"{_I}/roots.py",
        'if move.dir == "up" and exiting is not None:',
        'if move.dir == "down" and exiting is not None:',
    ),
    Fault(
        "canal stenosis acts on one side",
        f"{_I}/imaging_findings.py",
        'if self.condition != "canal_stenosis":',
        "if True:",
    ),
    Fault("uncertain numbering changes nothing", f"{_I}/roots.py", 'if imaging.numbering == "uncertain":', "if False:"),
    Fault("what was not read counts as read", f"{_I}/roots.py", "if open_question:", "if open_question and False:"),
    Fault(
        "the leg raise is positive only below 40 degrees",
        f"{_C}/exam.toml",
        "slr_positive_below_deg = 70",
        "slr_positive_below_deg = 40",
    ),
    Fault(
        "a residual of 250 mL is nothing",
        f"{_C}/exam.toml",
        "residual_abnormal_from_ml = 200",
        "residual_abnormal_from_ml = 300",
    ),
    Fault("strength 4- counts as 3", f"{_C}/exam.toml", '"4-" = 3.67', '"4-" = 3.0'),
    Fault(
        "strength 3 is no marked weakness", f"{_C}/exam.toml", "marked_weakness_to = 3.0", "marked_weakness_to = 2.0"
    ),
    Fault(
        "the better of touch and pin counts",
        f"{_I}/clinical_signs.py",
        'bad or fields, "abnormal" if bad else "normal"',
        'bad or fields, "abnormal" if len(bad) == len(fields) else "normal"',
    ),
    Fault("brisk reflexes count as reduced", f"{_C}/exam.toml", "reflex_reduced_to = 1", "reflex_reduced_to = 3"),
    Fault("six weeks became six days", f"{_C}/triage.toml", "six_weeks = 42", "six_weeks = 6"),
    Fault(
        "saddle numbness that was found is not counted",
        f"{_I}/clinical_signs.py",
        'if any(item not in (None, "normal") for item in found):\n        return True',
        "if False:\n        return True",
    ),
    Fault(
        "the later of two onsets counts",
        f"{_I}/clinical_signs.py",
        "return min(known) if known and min(known) >= 0 else None",
        "return max(known) if known and max(known) >= 0 else None",
        first="test_triage",
    ),
    Fault(
        "severity cuts of the recess swapped",
        f"{_I}/roots.py",
        "if finding.recess_mm <= low else",
        "if finding.recess_mm <= high else",
        first="test_correlate",
    ),
    Fault(
        "a swapped side between readers is not seen",
        f"{_I}/second_read.py",
        'sheet.differ("DC-02", (level, kind, here), there, here)',
        "pass",
        first="test_second_read",
    ),
    Fault(
        "reassuring words may leave",
        f"{_C}/words.en.toml",
        "safe to wait|reassur\\w*|benign|",
        "",
        first="test_narrate",
    ),
    Fault(
        "left and right swapped in German",
        f"{_C}/words.de.toml",
        'left = "links"\nright = "rechts"',
        'left = "rechts"\nright = "links"',
        first="test_languages",
    ),
    Fault(
        "left and right swapped on the drawing",
        f"{_I}/render/roots_svg.py",
        'return 1 if side == "left" else -1',
        'return 1 if side == "right" else -1',
        first="test_roots_drawing",
    ),
    Fault(
        "left and right swapped in FHIR",
        f"{_I}/fhir.py",
        "_SIDE_OF = {code: side for side, code in _SIDE_CODES.items()}",
        '_SIDE_OF = {"7771000": "right", "24028007": "left"}',
        first="test_fhir",
    ),
    Fault(
        "a later version takes the verdict over",
        f"{_I}/exam_versions.py",
        "return locked[0] if locked else len(self.versions) - 1",
        "return len(self.versions) - 1",
        first="test_exam_versions",
    ),
    Fault(
        "images alone implicate a root",
        f"{_I}/correlate.py",
        "and clinical[start:].sum() >= cut.root_implicated_clinical",
        "and clinical[start:].sum() >= 0",
        first="test_correlate",
    ),
    Fault(
        "a nerve lesion is listed on the left only",
        f"{_I}/correlate.py",
        "for side in (SIDES if name in LOCAL else (None,))",
        "for side in (SIDES[:1] if name in LOCAL else (None,))",
    ),
    Fault(
        "triage rules speak English in every language",
        f"{_I}/triage.py",
        "text=words(language).rule[name],",
        "text=words().rule[name],",
        first="test_languages",
    ),
    Fault(
        "the first analysis locks nothing",
        f"{_I}/exam_versions.py",
        "first = min(by_hand, analysed[0] if analysed else len(exams))",
        "first = by_hand",
        first="test_exam_versions",
    ),
    Fault(
        "an examination of another patient is taken",
        f"{_I}/exam_versions.py",
        "if named not in (None, pseudonym):",
        "if False:",
        first="test_exam_versions",
    ),
)


def survivors(chosen: tuple[int, ...], sound_first: bool) -> list[str]:
    """Plant each chosen fault (from 1), run the tests, and return those that no test caught."""
    out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="recess-mutants-") as name:
        copy = _copy(Path(name))
        if sound_first and (failed := _first_failure(copy, TESTS[0])):
            raise SystemExit(f"{failed} fails without a fault; nothing can be said")
        for number in chosen:
            fault = FAULTS[number - 1]
            path = copy / fault.file
            sound = path.read_text(encoding="utf-8")
            if fault.old not in sound:
                raise SystemExit(f"{number}: {fault.file} does not hold {fault.old!r}; mend the list")
            path.write_text(sound.replace(fault.old, fault.new), encoding="utf-8")
            begin = time.monotonic()
            failed = _first_failure(copy, fault.first)
            path.write_text(sound, encoding="utf-8")
            verdict = f"caught by {failed}" if failed else "SURVIVED"
            sys.stdout.write(f"{number:2d} {time.monotonic() - begin:5.1f} s  {fault.what}: {verdict}\n")
            sys.stdout.flush()
            out += [] if failed else [fault.what]
    return out


def _copy(folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for part in (*PARTS, "tests/inference"):
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=ignore)
        else:
            shutil.copy(ROOT / part, target)
    return folder


def _first_failure(copy: Path, first: str) -> str | None:
    """Name of the first test that fails (or cannot be loaded) in the copy; None when all pass.

    The tests run in a child that is forked with pytest and the libraries loaded, and loads the sources of the copy itself.
    """
    log = copy / "tests.log"
    child = os.fork()
    if child == 0:
        _run_tests(copy, log, first)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = log.read_text(encoding="utf-8")
    if code == 0:
        return None
    named = [line.split()[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if code not in (1, 2) or not named:
        raise SystemExit(said[-4000:])
    return named[0].rpartition("/")[2]


def _run_tests(copy: Path, log: Path, first: str) -> NoReturn:
    """In the child: run the chosen tests on the copy and end with pytest's code."""
    code = 3
    try:
        os.chdir(copy)
        with log.open("w", encoding="utf-8") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os.environ |= {"RECESS_DATA": str(copy / "none"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)}
        os.environ.pop("RECESS_SOAK", None)
        own = str(ROOT)
        sys.path[:] = [str(copy), *(path for path in sys.path if path not in {"", own})]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        sys.dont_write_bytecode = True
        tests = [f"tests/inference/{name}.py" for name in dict.fromkeys((first, *TESTS))]
        code = int(pytest.main(["-q", "-x", "--tb=short", "--assert=plain", "-rfE", "-p", "no:cacheprovider", *tests]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> int:
    """Run the chosen faults, or all; print one line each and the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--skip-sound", action="store_true", help="do not first run the tests without a fault")
    options = parser.parse_args()
    chosen = tuple(options.numbers) or tuple(range(1, len(FAULTS) + 1))
    left = survivors(chosen, not options.skip_sound)
    sys.stdout.write(f"{len(chosen) - len(left)} of {len(chosen)} faults caught\n")
    return 1 if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
