"""How the page looks, on a desk, on a phone and on paper."""

STYLESHEET = """
:root { --ink: #1a1a1a; --quiet: #555; --line: #d5d5d5; --link: #0060a0; --pale: #f5f6f8; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 4rem; color: var(--ink);
  background: #fff; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Verdana, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0 .25rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
main > section { border-top: 2px solid var(--line); margin-top: 2.25rem; padding-top: 1.25rem; }
p, figcaption, caption { max-width: 46rem; }
.quiet, figcaption, caption { color: var(--quiet); font-size: .875rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: #fff; padding: .25rem .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .5rem 0 0;
  padding: 0; }
nav a { display: inline-block; padding: .25rem 0; overflow-wrap: anywhere; }
figure { margin: .5rem 0 1rem; }
.scroll { overflow-x: auto; max-width: 100%; }
svg, .scroll img { display: block; }
.panels { display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.panels figure { margin: 0; max-width: 100%; }
.panels svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .875rem; margin: .25rem 0; }
caption { text-align: left; padding: 0 0 .35rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .75rem .3rem 0; text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: 600; min-width: 8rem; position: sticky; left: 0; background: #fff; }
tbody td { max-width: 26rem; overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--link); padding: .25rem 0; }
.frames { display: flex; gap: 1.25rem; list-style: none; margin: 0; padding: .5rem 0; }
.frames li { flex: none; }
@media (max-width: 40rem) { body { padding: .5rem .9rem 3rem; } h1 { font-size: 1.35rem; }
  tbody th { min-width: 6.5rem; } }
@media print { .skip, nav { display: none; } .scroll { overflow: visible; } }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""
