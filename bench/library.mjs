// The package as it was built, for all parts of the benchmark.
import { createRequire } from 'node:module';

export default createRequire(import.meta.url)('../dist/index.js');
