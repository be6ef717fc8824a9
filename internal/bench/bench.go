// Package bench answers: what does a function cost on top of the calls that it
// can't avoid?
//
// Everything is in its benchmarks, which make bench runs: size, cold start and
// memory of every function binary, and each step of a rotation beside the bare
// SQL and SDK calls of that step. docs/benchmarks.md says how to read them.
package bench
