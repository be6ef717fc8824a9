package postgres

// Quoting, for tests against a real server.
var (
	Ident     = ident
	Literal   = literal
	SplitList = splitList
	FreshName = freshName
	Password  = newPassword
	Verifier  = verifier
)
