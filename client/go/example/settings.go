package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	rmgrpc "github.com/rm-grpc/rm-grpc/client/go"
	"github.com/rm-grpc/rm-grpc/client/go/rmgrpcpb"
)

const tokenVariable = "RM_GRPC_CLIENT_TOKEN"

// configOf reads the arguments, and the token from its file or the environment.
func configOf(args []string, environment func(string) string, help io.Writer) (rmgrpc.Config, error) {
	config := rmgrpc.Config{Options: &rmgrpcpb.ScoreOptions{}}
	options := config.Options
	var tokenFile string

	flags := flag.NewFlagSet("score-jsonl", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it all
	flags.StringVar(&config.Address, "address", "", "host:port of the server, or unix:path (default 127.0.0.1:50051)")
	flags.StringVar(&config.Model, "model", "", "may be left out where the server serves only one")
	flags.Func("timeout", "seconds for each item (default 600)", seconds(&config.Timeout))
	flags.Func("reconnect", "seconds for which a lost server is tried (default 60)", seconds(&config.Reconnect))
	flags.Func("attempts", "how often an item is tried (default 20)", count(&config.Attempts))
	flags.BoolVar(&config.TLS, "tls", false, "encrypt; also on where one of the files or the name is given")
	flags.StringVar(&config.CAFile, "ca-file", "", "PEM of the authorities to trust (default the system's)")
	flags.StringVar(&config.CertFile, "cert-file", "", "PEM of the client's own certificate")
	flags.StringVar(&config.KeyFile, "key-file", "", "PEM of the client's own key")
	flags.StringVar(&config.ServerName, "server-name", "", "name in the server's certificate (default the address's host)")
	flags.StringVar(&tokenFile, "token-file", "", "file with the token, which may stand in RM_GRPC_CLIENT_TOKEN instead")
	flags.BoolVar(&config.Insecure, "insecure", false, "let a token leave this machine without encryption")
	choice(flags, "ordering", &config.Ordering, named[rmgrpc.Ordering]{
		{"completion", rmgrpc.Completion},
		{"submission", rmgrpc.Submission},
	})
	choice(flags, "control-tokens", &options.ControlTokens, named[rmgrpcpb.ControlTokens]{
		{"refuse", rmgrpcpb.ControlTokens_CONTROL_TOKENS_REFUSE},
		{"as_text", rmgrpcpb.ControlTokens_CONTROL_TOKENS_AS_TEXT},
		{"allow", rmgrpcpb.ControlTokens_CONTROL_TOKENS_ALLOW},
	})
	choice(flags, "foreign-markers", &options.ForeignMarkers, named[rmgrpcpb.ForeignMarkers]{
		{"refuse", rmgrpcpb.ForeignMarkers_FOREIGN_MARKERS_REFUSE},
		{"allow", rmgrpcpb.ForeignMarkers_FOREIGN_MARKERS_ALLOW},
	})
	choice(flags, "special-tokens", &options.SpecialTokens, named[rmgrpcpb.SpecialTokens]{
		{"as_is", rmgrpcpb.SpecialTokens_SPECIAL_TOKENS_AS_IS},
		{"add", rmgrpcpb.SpecialTokens_SPECIAL_TOKENS_ADD},
	})
	choice(flags, "activation", &options.Activation, named[rmgrpcpb.Activation]{
		{"none", rmgrpcpb.Activation_ACTIVATION_NONE},
		{"sigmoid", rmgrpcpb.Activation_ACTIVATION_SIGMOID},
	})
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(help)
			flags.PrintDefaults()
		}
		return config, err
	}
	if flags.NArg() > 0 {
		return config, fmt.Errorf("takes no argument %q; items come on standard input", flags.Arg(0))
	}
	token, err := tokenOf(tokenFile, environment)
	config.Token = token
	return config, err
}

func tokenOf(file string, environment func(string) string) (rmgrpc.Token, error) {
	if file == "" {
		return rmgrpc.Token(strings.TrimSpace(environment(tokenVariable))), nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file cannot be read: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", fmt.Errorf("--token-file: %s is empty", file)
	}
	return rmgrpc.Token(token), nil
}

// seconds reads a flag of seconds. Zero becomes a nanosecond, since the client's zero stands for the default.
func seconds(into *time.Duration) func(string) error {
	return func(text string) error {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || !(value >= 0 && value <= longestSeconds) {
			return errors.New("must be seconds, as a number that is not negative")
		}
		*into = durationOf(value)
		return nil
	}
}

// durationOf gives a duration that is neither zero nor longer than Go has them.
func durationOf(seconds float64) time.Duration {
	nanoseconds := math.Min(math.Max(seconds*1e9, 1), math.MaxInt64/2)
	return time.Duration(nanoseconds)
}

func count(into *int) func(string) error {
	return func(text string) error {
		value, err := strconv.Atoi(text)
		if err != nil || value < 1 {
			return errors.New("must be a whole number, 1 or more")
		}
		*into = value
		return nil
	}
}

// named lists the values that a flag may have.
type named[T any] []struct {
	name  string
	value T
}

func choice[T any](flags *flag.FlagSet, flag string, into *T, values named[T]) {
	names := make([]string, len(values))
	for at, one := range values {
		names[at] = one.name
	}
	flags.Func(flag, "one of "+strings.Join(names, ", "), func(text string) error {
		for _, one := range values {
			if one.name == text {
				*into = one.value
				return nil
			}
		}
		return fmt.Errorf("must be one of %s", strings.Join(names, ", "))
	})
}
