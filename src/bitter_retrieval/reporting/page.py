"""The page that report.render fills: a Jinja template."""

from bitter_retrieval.reporting.questions_page import QUESTIONS
from bitter_retrieval.reporting.style import STYLE

CONTENTS = {  # title of each part, by its id on the page
    "differences": "Differences",
    "systems": "Every run and control",
    "rankings": "Rankings and utility",
    "further": "With other numbers of passages shown",
    "pictures": "Pictures",
    "readers": "Exact match by reader",
    "disagreement": "Where human and soft labels disagree",
    "agreement": "How far label sources agree",
    "questions": "Side by side: questions that the primary run and the baseline answer differently",
    "sample": "Data and labels: a sample of questions",
    "counts": "What was counted",
    "columns": "What the columns mean",
    "made": "What this page is made from",
}

MACROS = """
{% macro estimate(value, scale=100, digits=1) -%}
{% if value is none or value is undefined or value.mean is none %}{{ words.NOTHING }}{% else -%}
{{ words.share(dict(value, low=none), scale, digits) }}<small>{{ words.interval(value, scale, digits) }}</small>
{%- endif %}
{%- endmacro %}

{% macro score(scores, metric) -%}
{% set found = scores.get(metric.name) %}
{% if found %}{{ estimate(found, metric.unit.scale, metric.unit.digits) }}{% else %}{{ metric.absent }}{% endif %}
{%- endmacro %}

{% macro bar(bars, name) %}
{% set at = bars.runs[name] %}
<svg width="{{ bars.width }}" height="18" viewBox="0 0 {{ bars.width }} 18" role="img" aria-label="interval">
<rect x="{{ bars.equal[0] }}" width="{{ bars.equal[1] }}" height="18" fill="#eef0f3"/>
<line x1="{{ bars.width / 2 }}" x2="{{ bars.width / 2 }}" y1="0" y2="18" stroke="#7a7f87"/>
{% if at.low is not none and at.high is not none %}
<line x1="{{ at.low }}" x2="{{ at.high }}" y1="9" y2="9" stroke="#2a6fbb" stroke-width="2"/>
{% endif %}
{% if at.mean is not none %}
<circle cx="{{ at.mean }}" cy="9" r="3.5" fill="{{ "#fff" if at.outside else "#2a6fbb" }}" stroke="#2a6fbb"/>
{% endif %}
{% for side in at.beyond %}
<path d="{{ "M1 9l6 -5v10z" if side < 0 else "M159 9l-6 -5v10z" }}" fill="#2a6fbb"/>
{% endfor %}
</svg>
{% endmacro %}

{% macro judged(one, bars, name, labels) -%}
<td class="left {{ one.verdict }}">{{ one.verdict }}</td>
<td>{{ words.points(one) }}</td><td>{{ bar(bars, name) }}</td><td>{{ words.probability(one.p) }}</td>
<td>{{ words.size(one.mde) }}</td><td>{{ words.size(one.seed_sd) }}</td><td class="left">{{ labels }}</td>
{%- endmacro %}

{% macro row_name(name) -%}
{% set role = report.systems[name].role %}
<th scope="row">{{ name }}{% if role %} <span class="tag">{{ role }}</span>{% endif %}</th>
{%- endmacro %}

{% macro labels_of(name) -%}
{{ report.systems[name].labels or words.NOTHING }}
{%- endmacro %}

{% macro row_head(name) -%}
{{ row_name(name) }}
<td class="left">{{ labels_of(name) }}</td>
{%- endmacro %}

{% macro part(name) -%}
<details class="part" id="{{ name }}"><summary><h2>{{ contents[name] }}</h2></summary>
{{ caller() }}
</details>
{%- endmacro %}

{% macro figure(name) -%}
<figure><img src="{{ pictures[name][0] }}" alt="{{ name }}"><figcaption>{{ pictures[name][1] }}</figcaption></figure>
{%- endmacro %}

{% macro text(of_data) -%}
{{ of_data|truncate(longest, end="…") }}
{%- endmacro %}

{% macro tags(passage) -%}
{% for tag in passage.tags %}<span class="tag">{{ tag }}</span>{% endfor %}
{%- endmacro %}

{% macro number(value) -%}
{{ words.NOTHING if value is none else "%.2f"|format(value) }}
{%- endmacro %}

{% macro row_class(name) -%}
{% if name == about.baseline %} class="baseline"{% elif name == about.primary %} class="primary"{% endif %}
{%- endmacro %}
"""

BODY = """
<h1>Does a retriever trained on what helps a reader answer beat one trained on human relevance labels?</h1>
{% for warning in words.warnings(report) %}<p class="verdict warning">{{ warning }}</p>{% endfor %}
<p class="verdict"><b>{{ answer.answer(report) }}</b></p>
<p>{{ answer.meaning(report) }} {{ answer.scope(report) }}</p>
{{ figure("differences") }}
<div class="wide"><table class="few">
<caption>The rows that matter. Verdict and difference: against {{ about.baseline }}, in points. Exact match with
{{ about.reader }}, %.</caption>
<thead><tr><th class="left">System</th><th class="left">Verdict</th><th>Difference</th><th>Exact match</th>
<th class="left">What it is</th></tr></thead>
<tbody>
{% for name in answer.rows(report) %}
{% set one = report.differences[about.reader].em.get(name) %}
<tr{{ row_class(name) }}>{{ row_name(name) }}
<td class="left {{ one.verdict if one }}">
{{- one.verdict if one else "baseline" if name == about.baseline else words.NOTHING }}</td>
<td>{{ words.points(one) }}</td><td>{{ words.share(report.systems[name].scores.get(about.reader, {}).get("em")) }}</td>
<td class="left losses">{{ answer.described(report, name) }}</td></tr>
{% endfor %}
</tbody></table></div>
<dl class="soft">{% for name, meaning in names.items() %}<dt>{{ name }}</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>
<nav onclick="const to = event.target.hash; if (to) document.querySelector(to).open = true"><h2>Contents</h2><ul>
{% for name, title in contents.items() %}<li><a href="#{{ name }}">{{ title }}</a></li>{% endfor %}
</ul></nav>

{% call part("differences") %}
<p>Primary figure: {{ verdict }}</p>
<p>It is the difference in exact match between <b>{{ about.primary }}</b> (trained on the labels
of {{ report.systems[about.primary].labels }}) and <b>{{ about.baseline }}</b> (trained on the labels
of {{ report.systems[about.baseline].labels }}), with {{ about.reader }} answering from the top
{{ about.shown[0] }} of the ranking. It stands alone: its interval, p, verdict and MDE need no adjustment for others.
{{ "The same difference in answer accuracy is primary too." if "accuracy" in about.primary_metrics }}
Everything else on this page is secondary.</p>
<p>{{ about.questions }} {{ about.split }} questions in {{ about.groups }} groups, {{ about.seeds }} training seeds a
run. Intervals are 95% and hold for other questions{{ " and other training seeds" if about.seeds > 1 else
", not for training again" }}; differences are paired by question and seed. Those that hold at once are adjusted
by {{ about.draws }} resamples of groups of questions and of seeds.</p>
<p>Answer accuracy is judged by {{ about.judge }}.
{{ "It repeats exact match and is left out." if not compared|selectattr("name", "equalto", "accuracy")|list }}</p>
{% for metric in compared %}
{% set found = report.differences[about.reader][metric.name] %}
{% set pairs = words.contrasts(report, metric.name) %}
{% set alone = metric.name in about.primary_metrics %}
{% if found or pairs %}
<div class="wide"><table>
<caption>{{ metric.head }} with {{ about.reader }}, points
{{ "(primary)" if alone else "(secondary)" }}. Intervals and p hold for all at once
{{- ", but for the primary difference, which stands alone" if alone }}. Grey: the region called equivalent. Arrow: the
interval goes on beyond the picture, as does a hollow dot.</caption>
<thead><tr><th class="left">Run</th><th class="left">Verdict</th><th>Difference</th><th></th><th>p</th><th>MDE</th>
<th>Seed sd</th><th class="left">Labels</th></tr></thead>
{% if alone and about.primary in found %}
<tbody>
<tr><th colspan="8">Primary: {{ about.primary }} − {{ about.baseline }}</th></tr>
<tr class="primary">{{ row_name(about.primary) }}
{{ judged(found[about.primary], bars[metric.name], about.primary, labels_of(about.primary)) }}</tr>
</tbody>
{% endif %}
{% if pairs %}
<tbody>
<tr><th colspan="8">Contrasts</th></tr>
{% for name, one in pairs.items() %}
<tr><th scope="row">{{ name }}</th>{{ judged(one, bars[metric.name], name, words.NOTHING) }}</tr>
{% endfor %}
</tbody>
{% endif %}
<tbody>
<tr><th colspan="8">Runs − {{ about.baseline }}</th></tr>
{% for name, one in found.items() %}
<tr{{ row_class(name) }}>{{ row_name(name) }}{{ judged(one, bars[metric.name], name, labels_of(name)) }}</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="soft">{{ metric.head }}: nothing to compare
{{- " (" ~ metric.absent ~ ")" if metric.absent != words.NOTHING }}.</p>
{% endif %}
{% endfor %}
<ul>{% for check in words.checks(report) %}<li>{{ check }}</li>{% endfor %}</ul>
{% endcall %}

{% call part("systems") %}
<div class="wide"><table>
<caption>With {{ about.reader }}, {{ words.units(main) }}, the 95% interval below.
{{ words.NOTHING }}: not applicable or unknown. {{ words.beyond(report) }}</caption>
<thead><tr><th class="left">System</th><th class="left">Labels</th>
{% for metric in main %}<th>{{ metric.head }}</th>{% endfor %}
{% for metric in beyond %}<th>Beyond: {{ metric.column }}</th>{% endfor %}</tr></thead>
{% for kind, systems in kinds.items() %}
<tbody>
<tr><th colspan="{{ main|length + beyond|length + 2 }}">{{ kind }}</th></tr>
{% for name, system in systems.items() %}
<tr{{ row_class(name) }}>{{ row_head(name) }}
{% for metric in main %}<td>{{ score(system.scores.get(about.reader, {}), metric) }}</td>{% endfor %}
{% for share, to_untrained in words.beyond_cells(report, name, beyond) %}
<td>{{ share }}<small>{{ to_untrained }}</small></td>
{% endfor %}</tr>
{% endfor %}
</tbody>
{% endfor %}
</table></div>
<dl>{% for systems in kinds.values() %}{% for name, system in systems.items() %}
<dt>{{ name }}</dt><dd>{{ system.about }}</dd>
{% endfor %}{% endfor %}</dl>
{% endcall %}

{% call part("rankings") %}
<div class="wide"><table>
<caption>Secondary. Rankings of {{ about.corpus }} passages by the labels of {{ about.human_source }}, and passages
shown to {{ about.reader }} against the best candidate and against no passage: {{ words.units(secondary) }}, the 95%
interval below.</caption>
<thead><tr><th class="left">System</th><th class="left">Labels</th>
{% for metric in secondary %}<th>{{ metric.head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for name, system in report.systems.items() %}
<tr{{ row_class(name) }}>{{ row_head(name) }}
{% for metric in secondary %}<td>{{ score(system.scores.get(about.reader, {}), metric) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endcall %}

{% if report.further %}
{% call part("further") %}
{% for shown, found in report.further.items() %}
<h3>{{ shown }} passages shown</h3>
<div class="wide"><table>
<caption>Secondary. {{ about.reader }} answers from the first {{ shown }} passages: exact match, %, and its difference
to {{ about.baseline }}, points, with an interval and p that hold for all runs at once.</caption>
<thead><tr><th class="left">System</th><th class="left">Verdict</th><th>Difference</th><th>p</th><th>MDE</th>
<th>Exact match</th>{% for metric in further %}<th>{{ metric.head }}</th>{% endfor %}
<th class="left">Labels</th></tr></thead>
<tbody>
{% for name, system in found.systems.items() %}
{% set scores = system.scores.get(about.reader, {}) %}
{% set one = found.differences[about.reader].em.get(name) %}
<tr{{ row_class(name) }}>{{ row_name(name) }}
<td class="left {{ one.verdict if one }}">{{ one.verdict if one else words.NOTHING }}</td>
<td>{{ words.points(one) }}</td><td>{{ words.probability(one and one.p) }}</td>
<td>{{ words.size(one and one.mde) }}</td><td>{{ estimate(scores.get("em")) }}</td>
{% for metric in further %}<td>{{ score(scores, metric) }}</td>{% endfor %}
<td class="left">{{ labels_of(name) }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% endcall %}
{% endif %}

{% call part("pictures") %}
{% for name in pictures if name != "differences" %}{{ figure(name) }}{% endfor %}
{% endcall %}

{% call part("readers") %}
{% for shown, found in words.readings(report).items() %}
<div class="wide"><table>
<caption>{{ shown }} shown: exact match by the reader that answers, %, the 95% interval below, and difference to
{{ about.baseline }} with that reader, points; its interval holds for all runs at once.
{{ "Secondary except for the primary figure." if loop.first else "Secondary." }}</caption>
<thead><tr><th class="left">System</th><th class="left">Labels</th><th class="left">Encoder</th>
<th class="left">Losses</th>
{% for reader in about.readers %}<th>{{ reader }}</th><th>Difference</th>{% endfor %}</tr></thead>
{% for kind, systems in kinds.items() %}
<tbody>
<tr><th colspan="{{ 2 * about.readers|length + 4 }}">{{ kind }}</th></tr>
{% for name, system in systems.items() if name in found.systems %}
<tr{{ row_class(name) }}>{{ row_head(name) }}<td class="left">{{ system.encoder or words.NOTHING }}</td>
<td class="left losses">{{ system.about if system.kind == "run" else words.NOTHING }}</td>
{% for reader in about.readers %}
<td>{{ estimate(found.systems[name].scores.get(reader, {}).get("em")) }}</td>
<td>{{ "baseline" if name == about.baseline else words.points(found.differences[reader].em.get(name)) }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody>
{% endfor %}
</table></div>
{% endfor %}
{% endcall %}

{% call part("disagreement") %}
<div class="wide"><table>
<caption>Labels of {{ about.human_source }} and lowest answer loss of {{ about.label_source }},
% of questions.</caption>
<thead><tr><th class="left"></th>{% for split in report.disagreement %}<th>{{ split }}</th>{% endfor %}</tr></thead>
<tbody>
{% for said, values in words.disagreement_rows(report.disagreement) %}
<tr><td class="left">{{ said }}</td>{% for value in values %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endcall %}

{% call part("agreement") %}
<div class="wide"><table>
<caption>Every two label sources, the 95% interval below. Tau: Kendall's tau-b between their orders of a question's
candidates, if both are soft; 1 is the same order. Best differs: questions whose best passages differ, %. By chance:
the same if one source put a random candidate first. Left out: questions with fewer than two candidates that both
label, and questions whose candidates one of the two ranks all level.</caption>
<thead>
<tr><th colspan="2"></th>
{% for split in report.label_agreement %}<th colspan="5">{{ split }} questions</th>{% endfor %}</tr>
<tr><th class="left">Labels</th><th class="left">against</th>{% for split in report.label_agreement %}
<th>Tau</th><th>Best differs</th><th>By chance</th><th>Questions</th><th>Left out</th>{% endfor %}</tr></thead>
<tbody>
{% for splits in agreements %}
<tr><th scope="row">{{ splits[0].first }}</th><td class="left">{{ splits[0].second }}</td>
{% for one in splits %}
<td>{{ estimate(one.tau, 1, 2) }}</td><td>{{ estimate(one.disagreement) }}</td><td>{{ words.size(one.chance) }}</td>
<td>{{ one.questions }}</td><td>{{ one.few_candidates }} + {{ one.tied }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endcall %}
"""

END = """
{% call part("counts") %}
<ul>{% for note in words.notes(report) %}<li>{{ note }}</li>{% endfor %}</ul>
{% endcall %}

{% call part("columns") %}
<dl>{% for name, meaning in definitions.items() %}<dt>{{ name }}</dt><dd>{{ meaning }}</dd>{% endfor %}</dl>
{% endcall %}

{% call part("made") %}
<details><summary>Parameters</summary><div class="wide"><table class="values"><tbody>
{% for name, value in params.items() %}<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div></details>
<details><summary>Files and their MD5</summary><div class="wide"><table class="values"><tbody>
{% for path, digest in files.items() %}<tr><th scope="row">{{ path }}</th><td>{{ digest }}</td></tr>
{% endfor %}
</tbody></table></div></details>
{% endcall %}
"""

PAGE = f"""{MACROS}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Retrievers by the answers they lead to</title>
<style>{STYLE}</style>
</head>
<body>{BODY}{QUESTIONS}{END}</body>
</html>
"""
