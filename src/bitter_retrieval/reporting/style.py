"""The style sheet of the report's page, which embeds it."""

STYLE = """
:root { color-scheme: light; --ink: #22262b; --soft: #666c74; --line: #dfe2e6; --blue: #2a6fbb; --orange: #d1661c; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 .75rem; max-width: 46rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
p, li, dd { max-width: 46rem; }
.soft, caption, figcaption { color: var(--soft); font-size: .875rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid var(--blue); padding: .25rem 0 .25rem .9rem; margin: 1rem 0; }
.warning { border-color: var(--orange); }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; max-width: min(46rem, 100vw - 2rem); }
th, td { padding: .3rem 1rem .3rem 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--ink); }
th[scope=row] { position: sticky; left: 0; background: #fff; }
.primary th[scope=row] { background: #f1f6fc; }
td.losses { white-space: normal; min-width: 9rem; }
th[scope=row], th.left, td.left { text-align: left; }
thead th[colspan] { text-align: left; }
tbody th[colspan] { text-align: left; color: var(--soft); font-weight: 400; padding-top: .9rem; }
td small { display: block; color: var(--soft); font-size: .75rem; }
.better { color: #1d7a3a; } .worse { color: #b3261e; } .equivalent { color: #1f6f8b; } .inconclusive { color: #8a6100; }
.primary { background: #f1f6fc; }
.baseline th { color: var(--orange); }
svg { display: block; }
figure { margin: 1rem 0 1.5rem; }
figure img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: 10rem 1fr; gap: .35rem 1rem; }
dt { font-weight: 600; overflow-wrap: anywhere; }
dd { margin: 0; }
nav h2 { border: 0; padding: 0; margin: 1.5rem 0 .25rem; font-size: 1rem; }
nav ul { margin: 0; padding-left: 1.25rem; columns: 18rem; }
summary h2 { display: inline; border: 0; padding: 0; margin: 0; }
.part { padding: .75rem 0; }
.part:target > summary { background: #f1f6fc; }
input[name=side] + label { margin-right: 1rem; }
#side-lost:checked ~ .questions > .gained, #side-gained:checked ~ .questions > .lost { display: none; }
.few td.losses, .labels td.left { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
.labels td.left:last-child { min-width: 7rem; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
.side { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1.5rem; padding: .5rem 0 .75rem; }
.side td, .side th { white-space: normal; text-align: left; }
.passage { margin: 0 0 .6rem; font-size: .875rem; overflow-wrap: anywhere; }
.passage b { margin-right: .35rem; }
.tag { display: inline-block; font-size: .75rem; border: 1px solid var(--line); border-radius: .6rem;
  padding: 0 .45rem; margin-right: .25rem; color: var(--soft); }
.right { color: #1d7a3a; }
.values td { white-space: pre-wrap; overflow-wrap: anywhere; text-align: left; }
@media (max-width: 44rem) {
  body { padding: 1rem .9rem 3rem; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .5rem; }
  .side { grid-template-columns: minmax(0, 1fr); }
  th, td { padding-right: .6rem; }
  th[scope=row] { white-space: normal; max-width: 8rem; overflow-wrap: anywhere; }
  th[scope=row] .tag { display: block; border: 0; padding: 0; }
  input[name=side] + label { display: inline-block; max-width: calc(100% - 2rem); vertical-align: top; }
}
"""
