// Asks two npm packages whether ASL files are valid:
// `node validate.mjs <folder with node_modules> <file>...` prints a JSON object
// of complaints by file and validator; no complaint is an empty list.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'validate.cjs'));
const validator = require('asl-validator');
const { getLanguageService, TextDocument } = require('amazon-states-language-service');
const service = getLanguageService({});

async function languageService(file, text) {
  const document = TextDocument.create(`file://${file}`, 'asl', 1, text);
  const found = await service.doValidation(document, service.parseJSONDocument(document));
  return found.map(({ range, message }) => `line ${range.start.line + 1}: ${message}`);
}

const report = {};
for (const file of process.argv.slice(3)) {
  const text = readFileSync(file, 'utf8');
  const result = validator(JSON.parse(text), { checkArn: true, checkPaths: true });
  report[file] = {
    'asl-validator': result.isValid ? [] : [result.errorsText('\n')],
    'amazon-states-language-service': await languageService(file, text),
  };
}
console.log(JSON.stringify(report));
