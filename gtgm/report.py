"""The report: one HTML page that needs no network, with the tables, figures and notebooks."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from gtgm import figures, foreign_html, paths, tables
from gtgm.batch.units import EXECUTED
from gtgm.datasets import registry
from gtgm.figures_across import across_figures
from gtgm.figures_study import study_figures
from gtgm.markup import Link, page_templates
from gtgm.provenance import machine_name
from gtgm.references import reference_table
from gtgm.results import Result
from gtgm.statistics import select, settings_of
from gtgm.style import styled
from gtgm.table import Table

#: Most bytes of the page; figures beyond are linked, not embedded.
MAX_BYTES = 20_000_000


def build_report(run_folder: str | Path, results: Iterable[Result], out: str | Path) -> Path:
    """Write the report of a batch.

    Beside the page come ``notebooks/<unit>.html`` (executed notebooks), ``results/<id>.json`` and
    ``tables``, so that its folder can be moved and read anywhere.

    Args:
        run_folder: its ``executed/*.ipynb`` and every ``figures/*.png`` at any depth are shown,
            the figures with the caption and credit that ``save_figure`` kept in them.
        results: go into the tables, the curves and the list of runs.
        out: path of the page, usually ``<run folder>/report/index.html``.

    Returns:
        The path of the page.

    Raises:
        ResultError, SettingsError: see :func:`gtgm.tables.build_table`.
    """
    run_folder, out, results = Path(run_folder), Path(out), list(results)
    environment = page_templates(Path(__file__).parent)
    page_tables = [tables.build_table(modality, results) for modality in tables.FRACTIONS]
    notebooks = _export_notebooks(run_folder / EXECUTED, out.parent / "notebooks", environment)
    for result in results:
        paths.write_json(out.parent / "results" / f"{result.id}.json", result.to_dict())
    pages = {n["name"]: n["href"] for n in notebooks if not n["failed"]}
    sources = {result.id: _links(result, pages) for result in results}
    page = environment.get_template("report_template.html.j2").render(
        tables=[_table(t, sources, out.parent) for t in page_tables],
        figures=_figures(run_folder, results, out.parent),
        notebooks=notebooks,
        results=[_run(r) for r in results],
        phantoms=_titles(r for r in results if r.source == "phantom"),
        notices=[registry.get(name) for name in _names(r for r in results if r.source == "real")],
        leaks=[f"{r.id} ({', '.join(r.leaks)})" for r in results if r.leaks],
        hardware=sorted({machine_name(r.hardware) for r in results if r.hardware}),
        commits=sorted({r.commit for r in results if r.commit}),
        seconds=sum(r.wall_seconds or 0 for r in results),
        memory=max((r.peak_memory_gb or 0 for r in results), default=0),
        **_script(),
    )
    return paths.write_text(out, page)


def _script() -> dict[str, str]:
    """The page's script, and its hash: the browser runs this one and no other."""
    text = Path(__file__).with_name("report_script.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).digest()
    return {"script": Markup(text), "script_hash": base64.b64encode(digest).decode()}


def _table(table: Table, sources: Mapping[str, Sequence[Link]], beside: Path) -> dict[str, Any]:
    """A table, its files, and below it the reference systems on its datasets."""
    files = table.write(beside / "tables" / table.modality.lower())
    references = reference_table(table.modality, set(table.frame["dataset"]))
    return {
        "modality": table.modality,
        "html": Markup(table.to_html(sources)),
        "files": [(file.suffix[1:], _link(file, beside)) for file in files],
        "references": Markup(references.to_html()),
    }


def _figures(run_folder: Path, results: Sequence[Result], beside: Path) -> list[dict[str, Any]]:
    """Drawn from results first, then those that the notebooks saved."""
    shown, spent = [], 0
    for caption, credit, figure in _drawn(results, run_folder):
        buffer = io.BytesIO()
        with styled():
            figure.savefig(buffer, format="png")
        spent += buffer.tell()
        with Image.open(buffer) as image:
            size = image.size
        src = _data_uri(buffer.getvalue())
        shown.append({"src": src, "size": size, "caption": caption, "credit": credit})
    for file in sorted(run_folder.rglob("figures/*.png")):
        with Image.open(file) as image:
            text, size = dict(image.info), image.size
        data = file.read_bytes()
        # Base64 takes 4 bytes for 3; a quarter of the page is left to text and tables.
        fits = (spent + len(data)) * 4 / 3 < 0.75 * MAX_BYTES
        spent += len(data) if fits else 0
        shown.append(
            {
                "src": _data_uri(data) if fits else _link(file, beside),
                "size": size,
                "caption": text.get("Description") or file.stem.replace("_", " "),
                "credit": text.get("Copyright", ""),
            }
        )
    return shown


def _drawn(results: Sequence[Result], run_folder: Path) -> Iterable[tuple[str, str, Figure]]:
    """Caption, credit and figure of everything that several runs make up."""
    for caption, credit, draw in across_figures(results, run_folder).values():
        yield caption, credit, draw()
    for result in results:
        if result.stage == "pretrain" and result.curves:
            names = ", ".join(_titles([result]))
            yield (
                f"Pretraining on {names} ({result.source}): {result.id}",
                "",
                figures.loss_curves(result),
            )
    for name in _names(r for r in results if r.source == "real"):
        for setting in settings_of(results, name):
            runs = select(results, name, setting=setting)
            if setting.source == "real" and runs:
                fewest = min(run.fraction for run in runs)
                for caption, draw in study_figures(results, name, fewest, setting).values():
                    yield caption, "", draw()


def _export_notebooks(
    executed: Path, folder: Path, environment: jinja2.Environment
) -> list[dict[str, Any]]:
    """Every executed notebook as a page; only those that changed are converted again.

    Their HTML is cleaned, and the page forbids scripts altogether.
    """
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(
        template_name="basic", sanitize_html=True, filters={"clean_html": foreign_html.clean}
    )
    template = environment.get_template("notebook_template.html.j2")
    rules = [Path(template.filename).stat().st_mtime, Path(foreign_html.__file__).stat().st_mtime]
    highlight = HtmlFormatter(style="default").get_style_defs(".highlight")
    rows = []
    for file in sorted(executed.glob("[!.]*.ipynb")):
        page = folder / f"{file.stem}.html"
        if not page.is_file() or page.stat().st_mtime < max(file.stat().st_mtime, *rules):
            body, _ = exporter.from_filename(str(file))
            paths.write_text(
                page,
                template.render(title=file.stem, body=Markup(body), highlight=Markup(highlight)),
            )
        failed = file.stem.endswith(".failed")
        rows.append(
            {
                "name": file.stem.removesuffix(".failed"),
                "href": f"{folder.name}/{quote(page.name)}",
                "failed": failed,
            }
        )
    return rows


def _run(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "href": _result_page(result),
        "stage": result.stage,
        "data": ", ".join(_titles([result])),
        "source": result.source,
        "method": result.method or "–",
        "summary": ", ".join(
            f"{name} {value:.3g}"
            for name, value in result.summary.items()
            if value is not None and "/" not in name
        ),
        "seconds": result.wall_seconds,
        "memory": result.peak_memory_gb,
    }


def _links(result: Result, pages: Mapping[str, str]) -> list[Link]:
    """To the result file of a run, and to its notebook if it is part of the report."""
    about = [f"{name} {getattr(result, name)}" for name in ("fold", "draw", "seed")]
    links = [(", ".join(about), _result_page(result))]
    unit = Path(result.notebook).stem if result.notebook else ""
    return [*links, ("notebook", pages[unit])] if unit in pages else links


def _result_page(result: Result) -> str:
    return f"results/{quote(result.id)}.json"


def _names(results: Iterable[Result]) -> list[str]:
    """Datasets of the results, in the registry's order."""
    used = {name for result in results for name in result.datasets}
    return sorted(used, key=lambda name: registry.names().index(registry.get(name).name))


def _titles(results: Iterable[Result]) -> list[str]:
    return [registry.get(name).title for name in _names(results)]


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _link(file: Path, beside: Path) -> str:
    return quote(Path(os.path.relpath(file, beside)).as_posix())
