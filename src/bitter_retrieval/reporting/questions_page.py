"""The part of the report's page with questions to read: where two runs differ, and a sample with its labels."""

QUESTIONS = """
{% call part("questions") %}
<p class="soft">Ranked by the difference in exact match between {{ about.primary }} and {{ about.baseline }}, mean of
the seeds: they show how the two differ, not how often. Of the questions where the one is right more often than the
other, the largest differences are here. {{ about.reader }} answered from the top {{ about.shown[0] }}. Letters name
the passages that it saw, in order; ✓ is an exact match; a loss is of the labels {{ about.label_source }}, nats a
token. Long texts are cut.</p>
{% set sides = to_read.sides %}
{% set shown = to_read.differing|map(attribute="difference")|list %}
{% set lost = shown|select("lt", 0)|list|length %}
{% set gained = shown|length - lost %}
{% if shown %}
<input type="radio" name="side" id="side-all" checked><label for="side-all">all {{ shown|length }} shown</label>
<input type="radio" name="side" id="side-lost"><label for="side-lost">{{ about.baseline }}
({{ report.systems[about.baseline].labels }}) right, {{ about.primary }} wrong: {{ lost }} of {{ sides.worse }}</label>
<input type="radio" name="side" id="side-gained"><label for="side-gained">{{ about.primary }}
({{ report.systems[about.primary].labels }}) right, {{ about.baseline }} wrong: {{ gained }} of
{{ sides.better }}</label>
{% endif %}
<div class="questions">
{% for one in to_read.differing %}
<details class="{{ "lost" if one.difference < 0 else "gained" }}">
<summary><b>{{ text(one.query) }}</b> <span class="soft">reference: {{ text(one.answers|join("; ")) }};
{{ words.signed(one.difference) }} points</span></summary>
<div class="side">
<div>
{% for passage in one.passages %}
<p class="passage"><b>{{ passage.mark }}</b>{{ text(passage.text) }}<br>{{ tags(passage) }}</p>
{% endfor %}
</div>
<div class="wide"><table>
<thead><tr><th class="left">Run</th>
{% for seed in one.runs[0].seeds %}<th class="left">{{ loop.index }}. seed</th>{% endfor %}</tr></thead>
<tbody>
{% for run in one.runs %}
<tr><th scope="row">{{ run.name }}</th>
{% for seed in run.seeds %}
<td{% if seed.right %} class="right"{% endif %}><b>{{ seed.marks|join(" ") }}</b> {{ text(seed.answer) }}
{{- " ✓" if seed.right }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</div>
</details>
{% else %}
<p>There are none: as far as exact match is known, {{ about.primary }} and {{ about.baseline }} differ on no
question.</p>
{% endfor %}
</div>
{% endcall %}

{% call part("sample") %}
<p class="soft">{{ to_read.sample|length }} of {{ about.questions }} questions, drawn by compare.seed, with their
candidates by loss. Loss: nats a token of the best reference, by reader. Utility: how much of the full gain over no
passage a candidate brings, by {{ about.label_source }}
{% if to_read.scale is not none %}(full: {{ "%.2f"|format(to_read.scale) }} nats a token or more)
{% else %}(unknown: in training questions no passage lowers the loss){% endif -%}
. First: the runs that ranked the passage first, with how many of their seeds. Long texts are cut.</p>
{% for one in to_read.sample %}
<details>
<summary><b>{{ text(one.query) }}</b> <span class="soft">reference: {{ text(one.answers|join("; ")) }}</span></summary>
<div class="wide"><table class="labels">
<thead><tr><th class="left">Passage</th><th>{{ about.human_source }}</th>
{% for reader in one.unaided %}<th>Loss, {{ reader }}</th>{% endfor %}
<th>Utility</th><th class="left">First</th></tr></thead>
<tbody>
{% for passage in one.passages %}
<tr><td class="left">{{ text(passage.text) }}<br>{{ tags(passage) }}</td>
<td>{{ "✓" if "annotators" in passage.tags else words.NOTHING }}</td>
{% for loss in passage.losses.values() %}<td>{{ number(loss) }}</td>{% endfor %}
<td>{{ number(passage.utility) }}</td>
<td class="left">{% for run, seeds in passage.first.items() %}{{ run }} {{ seeds }}<br>{% endfor %}</td></tr>
{% endfor %}
<tr><td class="left soft">no passage
{{- "; candidates left out here: " ~ one.left_out if one.left_out }}</td><td></td>
{% for loss in one.unaided.values() %}<td>{{ number(loss) }}</td>{% endfor %}<td></td><td></td></tr>
</tbody></table></div>
</details>
{% endfor %}
{% endcall %}
"""
