// Package guide answers: does an operator who follows docs/operating.md to the
// letter get to a rotated secret?
//
// Its test runs the page's blocks marked sh, in their order and as they stand, in
// one bash and in a copy of the checkout, on the local AWS that the page starts and
// a real PostgreSQL.
package guide
