#!/usr/bin/env bash
# Checks field names and types of every overlay, and of the base with every component, against the published
# types of Kubernetes, the Prometheus operator, KEDA and the Gateway API: each rendered document becomes a
# typed constant, and the TypeScript compiler says what is wrong with it.
#
#   deploy/kubernetes/typed_check.sh
#
# Needs kubectl and npm with a registry. InferencePool and GRPCRoute v1 have no published types: they are counted, not
# checked.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$here/../../build/typed_check
mkdir -p "$work" && cd "$work"
work=$(pwd)

echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps \
  kubernetes-models@5 @kubernetes-models/prometheus-operator @kubernetes-models/keda \
  @kubernetes-models/gateway-api typescript@5 js-yaml@4 >npm.log 2>&1

rm -rf rendered && mkdir rendered
for overlay in "$here"/overlays/*/; do
  kubectl kustomize "$overlay" >"rendered/overlay-$(basename "$overlay").yaml"
done
for component in "$here"/components/*/; do
  name=$(basename "$component")
  mkdir -p one
  printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%s]\ncomponents: [%s]\n' \
    "$(realpath --relative-to=one "$here/base")" "$(realpath --relative-to=one "$component")" >one/kustomization.yaml
  kubectl kustomize one >"rendered/component-$name.yaml"
done

cat >generate.mjs <<'JS'
import fs from 'node:fs';
import yaml from 'js-yaml';

const packages = {
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
  'keda.sh': '@kubernetes-models/keda',
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
};
const untyped = new Set(['InferencePool', 'GRPCRoute']);
let out = '';
let count = 0;
let left = 0;
for (const path of process.argv.slice(2)) {
  for (const document of yaml.loadAll(fs.readFileSync(path, 'utf8'))) {
    if (!document) continue;
    const [group, version] = document.apiVersion.includes('/') ?
        document.apiVersion.split('/') : ['', document.apiVersion];
    if (untyped.has(document.kind)) { left++; continue; }
    const from = `${packages[group] ?? 'kubernetes-models'}/${group ? group + '/' : ''}${version}`;
    out += `// ${path}: ${document.kind} ${document.metadata.name}\n` +
        `import type {I${document.kind} as T${count}} from '${from}';\n` +
        `export const o${count}: T${count} = ${JSON.stringify(document, null, 1)};\n`;
    count++;
  }
}
fs.writeFileSync('documents.ts', out);
console.log(`${count} documents to check, ${left} without published types left out`);
JS
cat >tsconfig.json <<'JSON'
{"compilerOptions": {"strict": true, "noEmit": true, "module": "nodenext", "moduleResolution": "nodenext",
 "target": "es2022", "skipLibCheck": true, "types": []}, "files": ["documents.ts"]}
JSON
node generate.mjs rendered/*.yaml
npx --no-install tsc -p tsconfig.json
echo "no field is unknown, missing or of the wrong type"
