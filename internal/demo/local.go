package demo

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/keyturn/keyturn/fault"
	"github.com/keyturn/keyturn/localstack"
	"github.com/keyturn/keyturn/localstack/lambda"
	"github.com/keyturn/keyturn/localstack/secretsmanager"
)

// startLocal starts the local AWS in this process; the functions are processes
// of their own that talk to it over the wire.
func (s *stage) startLocal(ctx context.Context) error {
	s.chaos = newChaos()
	behaviour := secretsmanager.Behaviour{Retries: 2, RetryAfter: functionLimit}
	cfg := lambda.Config{LogSink: s.logs.line}
	if s.options.KillRandom {
		behaviour.Retries, cfg.Kill = 20, s.chaos.kill
	}
	log := slog.New(slog.NewJSONHandler(s.logs, nil))
	local, err := localstack.Start(ctx, localstack.Options{
		Addr: "127.0.0.1:0", Behaviour: behaviour, Lambda: cfg, OnState: s.onState,
		Logger: log, Dir: s.dir,
	})
	if err != nil {
		return err
	}
	s.aws = local
	s.closeLater(func() { _ = local.Close() })
	return nil
}

// invoke calls a function as the scheduler would.
func (s *stage) invoke(ctx context.Context, function string, event []byte) error {
	out, err := s.aws.Lambda.Invoke(ctx, functionARN(function), event)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "invoking %s", function)
	}
	if out.FunctionError != "" {
		return fmt.Errorf("%s failed: %s", function, out.Payload)
	}
	return nil
}
