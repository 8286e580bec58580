"""The report in a terminal: the answers, flags with their millimetres, what was withheld, and the files to open.

The same page as on paper, shortened; wording and order come from `page.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from configs.clinical import words
from inference.render.answers import Answer, explain_answer, wait_answer
from inference.render.page import FindingRow, Page, page_of
from inference.report import Concordance, Report, Section, Triage

_STYLES = {
    "alarm": "bold red",
    "strong": "bold dark_orange3",
    "mild": "bold yellow",
    "quiet": "bold",
    "plain": "bold",
    "unknown": "bold blue",
    "severe": "bold dark_orange3",
    "moderate": "yellow",
    "normal_mild": "",
}


def print_summary(console: Console, report: Report, files: Iterable[Path] = ()) -> None:
    """Print one report on `console`, then the files that were written."""
    console.print(summary(report, files))


def summary(report: Report, files: Iterable[Path] = ()) -> RenderableType:
    """The summary as something Rich can print; plain lines where the console is no terminal."""
    page = page_of(report)
    text = page.text
    head = Text(f"recess  {text['study'].lower()} {page.study}", style="bold")
    blocks: list[RenderableType] = [head, _answers(page.answers)]
    if page.flags:
        blocks += [Text(text["flags"], style="bold"), _findings(page.flags, text)]
    elif page.no_flag:
        blocks.append(Text(page.no_flag))
    if page.read:
        blocks += [Text(text["read"], style="bold"), _findings(page.read, text, judged=False)]
    if page.withheld:
        blocks += [Text.assemble((text["withheld"], "bold"), f"  {text['withheld_note']}"), _withheld(page)]
    blocks += [_section(part.heading, [said for _, said in part.sentences]) for part in page.parts if part.sentences]
    blocks.append(Text(page.disclaimer, style="dim"))
    opened = list(files)
    if opened:
        blocks.append(Text.assemble((f"{text['files']}\n", "bold"), "\n".join(f"  {path}" for path in opened)))
    return Group(*(Padding(block, (0, 0, 1, 0)) for block in blocks))


def correlation_summary(result: Mapping[str, Any]) -> RenderableType:
    """What a correlation without pixels says: triage, verdict, finding by finding, the sentences, the disclaimer."""
    triage = Triage.model_validate(result["triage"]) if result.get("triage") else None
    concordance = Concordance.model_validate(result["concordance"]) if result.get("concordance") else None
    language = str(result["language"])
    answers = (wait_answer(triage, "exam" in result, language), explain_answer(concordance, language))
    blocks: list[RenderableType] = [_answers(answers)]
    if concordance and concordance.per_finding:
        table = Table.grid(padding=(0, 2))
        for verdict in concordance.per_finding:
            table.add_row(verdict.finding_id, words(language).judged[verdict.verdict], "; ".join(verdict.reasons))
        blocks += [Text(words(language).page["by_finding"], style="bold"), table]
    for item in result.get("narrative", ()):
        section = Section.model_validate(item)
        told = [sentence.text for sentence in section.sentences if sentence.text != result["disclaimer"]]
        blocks.append(_section(section.section, told))
    blocks.append(Text(str(result["disclaimer"]), style="dim"))
    return Group(*(Padding(block, (0, 0, 1, 0)) for block in blocks))


def _section(heading: str, sentences: Iterable[str]) -> Text:
    return Text.assemble((f"{heading[:1].upper()}{heading[1:]}\n", "bold"), " ".join(sentences))


def _answers(answers: Iterable[Answer]) -> Table:
    table = Table.grid(padding=(0, 2))
    for answer in answers:
        table.add_row(Text(answer.question), Text(answer.word, style=_STYLES[answer.tone]), Text(answer.line))
    return table


def _findings(rows: Iterable[FindingRow], text: Mapping[str, str], judged: bool = True) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    names = ("place", "what", "severity", "measured", "probability")
    for name in (*names, "against_exam") if judged else names:
        table.add_column(text[name], overflow="fold")
    for row in rows:
        table.add_row(
            Text(f"{row.level} {row.side}"),
            Text(row.what),
            Text(row.severity, style=_STYLES[row.tone]),
            Text("; ".join(row.values) or text["not_measured"]),
            Text(", ".join(part for part in (row.probability, row.basis) if part)),
            *([Text(row.verdict)] if judged else []),
        )
    return table


def _withheld(page: Page) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in page.withheld:
        table.add_row(
            Text(f"{row.level} {row.side}".strip()), Text(row.what), Text(f"{row.reason} ({row.code})", style="blue")
        )
    return table
