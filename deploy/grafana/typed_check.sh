#!/usr/bin/env bash
# Checks field names and types of every dashboard against the published types of Grafana (@grafana/schema), and
# that Prometheus's own parser reads every query: each dashboard becomes a typed constant, and the TypeScript
# compiler says what is wrong with it.
#
#   deploy/grafana/typed_check.sh
#
# Needs npm with a registry.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$here/../../build/grafana_check
mkdir -p "$work" && cd "$work"

echo '{"private": true, "type": "module"}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps \
  @grafana/schema@13.2.3 typescript@5 @prometheus-io/lezer-promql @lezer/lr @lezer/common @lezer/highlight \
  >npm.log 2>&1

cat >generate.mjs <<'JS'
import fs from 'node:fs';
import path from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';

let out = "import type {Dashboard, GraphFieldConfig, Panel, TimeSeriesOptions} from './types';\n";
let queries = 0;
let wrong = 0;
for (const file of process.argv.slice(2)) {
  const name = path.basename(file, '.json');
  const { panels, ...rest } = JSON.parse(fs.readFileSync(file, 'utf8'));
  out += `export const ${name}: Dashboard = ${JSON.stringify(rest)};\n`;
  panels.forEach((panel, i) => {
    // What the schema leaves open is checked on its own.
    const { fieldConfig, options, ...other } = panel;
    const { custom, ...defaults } = fieldConfig.defaults;
    other.fieldConfig = { ...fieldConfig, defaults };
    out += `export const ${name}${i}: Panel = ${JSON.stringify(other)};\n` +
        `export const ${name}${i}keys: (keyof GraphFieldConfig)[] = ${JSON.stringify(Object.keys(custom))};\n` +
        `export const ${name}${i}options: (keyof TimeSeriesOptions)[] = ${JSON.stringify(Object.keys(options))};\n`;
    for (const { expr } of panel.targets) {
      queries++;
      const text = expr.replaceAll('$__rate_interval', '5m');
      parser.parse(text).iterate({ enter: (node) => {
        if (!node.type.isError) return;
        wrong++;
        console.log(`${name}: ${panel.title}: cannot be parsed at ${node.from}: ${text}`);
      } });
    }
  });
}
fs.writeFileSync('dashboards.ts', out);
fs.writeFileSync('types.ts', `export type {Dashboard, Panel, GraphFieldConfig} from '@grafana/schema';
import type {OptionsWithLegend, OptionsWithTooltip} from '@grafana/schema';
export type TimeSeriesOptions = OptionsWithLegend & OptionsWithTooltip;
`);
console.log(`${process.argv.length - 2} dashboards, ${queries} queries, ${wrong} of them wrong`);
process.exit(wrong > 0 ? 1 : 0);
JS
cat >tsconfig.json <<'JSON'
{"compilerOptions": {"strict": true, "noEmit": true, "module": "esnext", "moduleResolution": "bundler",
 "target": "es2022", "skipLibCheck": true, "types": []}, "files": ["dashboards.ts"]}
JSON
node generate.mjs "$here"/dashboards/*.json
npx --no-install tsc -p tsconfig.json
echo "no field is unknown or of the wrong type"
