package postgres

// Quoting, for tests against a real server, and waiting, for tests on a clock of
// their own.
var (
	Ident     = ident
	Literal   = literal
	SplitList = splitList
	FreshName = freshName
	Password  = newPassword
	Verifier  = verifier

	Eventually = eventually
)
