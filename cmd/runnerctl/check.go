package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

const checkUsage = `Usage: runnerctl check WHAT [flags]

  credentials   who each credentials set is, which scopes it has and lacks, and
                what works with it; changes nothing at Bitbucket
  live          what Bitbucket Cloud really does, by one throw-away runner
  image         what a runner's image does: its entrypoint, lines, and signals

Exit codes: 0 all is well; 1 something is not; 2 it could not be told.
runnerctl check WHAT -h lists the flags.
`

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

// ExitCode is for main.
func (e *exitError) ExitCode() int { return e.code }

func (e *exitError) Unwrap() error { return e.error }

// The exit codes beside 0.
const (
	exitWrong   = 1
	exitUnclear = 2
)

// check dispatches to the checks. An interrupt ends their look and not their tidying
// up, which is bounded: a second one changes nothing.
func check(args []string, stdout, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return checkWith(ctx, args, os.LookupEnv, stdout, stderr)
}

func checkWith(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) error {
	what := ""
	if len(args) > 0 {
		what = args[0]
	}
	switch what {
	case "credentials":
		return checkCredentials(ctx, args[1:], lookup, stdout, stderr)
	case "live":
		return checkLive(ctx, args[1:], lookup, stdout, stderr)
	case "image":
		return checkImage(ctx, args[1:], stdout, stderr)
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, checkUsage)
		return err
	}
	return fmt.Errorf("check %q: want credentials, live or image: %w", what, errUsage)
}

// remote is the flags of checks that call Bitbucket.
type remote struct {
	credentialsDir, set     string
	workspace, repository   string
	url, oauthURL, caBundle string
	output                  string

	lookup func(string) (string, bool)
	bundle []byte
}

func (r *remote) define(set *flags.Set) {
	set.StringVar(&r.credentialsDir, "credentials-dir", "", "`directory` with one folder a credentials set, as the scaler's; without it the set `default` comes from the environment (BITBUCKET_OAUTH_CLIENT_ID, ...)")
	set.StringVar(&r.workspace, "workspace", "", "`slug` or {uuid} of a workspace")
	set.StringVar(&r.repository, "repository", "", "`slug` or {uuid} of a repository of it, for runners of the repository")
	set.StringVar(&r.url, "bitbucket-url", bitbucket.DefaultBaseURL, "`URL` of Bitbucket Cloud's API")
	set.StringVar(&r.oauthURL, "bitbucket-oauth-url", bitbucket.DefaultOAuthURL, "`URL` where an OAuth consumer gets its token")
	set.StringVar(&r.caBundle, "ca-bundle", "", "PEM `file` with certificates to trust besides the system's")
	defineOutput(set, &r.output)
}

func defineOutput(set *flags.Set, into *string) {
	set.StringVar(into, "o", "text", "`text|json`")
}

// read checks the flags; the faults are the set's.
func (r *remote) read(set *flags.Set) {
	checkOutput(set, r.output)
	switch {
	case r.workspace == "" && r.repository != "":
		set.Fault("--repository: %q, want --workspace too", r.repository)
	case r.workspace != "":
		if err := r.scope().Validate(); err != nil {
			set.Faults = append(set.Faults, err)
		}
	}
	// What it says of the addresses is told once, and not for each set.
	probe := bitbucket.Config{BaseURL: r.url, OAuthURL: r.oauthURL, Credentials: bitbucket.Credentials{AccessToken: "none"}}
	if r.caBundle != "" {
		var err error
		if r.bundle, err = os.ReadFile(r.caBundle); err != nil {
			set.Fault("--ca-bundle: %w", err)
		}
		probe.CABundle = r.bundle
	}
	if err := probe.Validate(); err != nil {
		set.Faults = append(set.Faults, err)
	}
}

func checkOutput(set *flags.Set, given string) {
	if given != "text" && given != "json" {
		set.Fault("-o: %q, want text or json", given)
	}
}

func (r *remote) scope() bitbucket.Scope {
	return bitbucket.Scope{Workspace: r.workspace, Repository: r.repository}
}

// sets are the credentials sets that were asked for.
func (r *remote) sets() ([]credentials.Set, error) {
	sets, err := credentials.Inspect(r.credentialsDir, r.lookup)
	if err != nil || r.set == "" {
		return sets, err
	}
	names := make([]string, 0, len(sets))
	for _, set := range sets {
		if set.Name == r.set {
			return []credentials.Set{set}, nil
		}
		names = append(names, set.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("--credentials: %q, want one of %s", r.set, strings.Join(names, ", "))
}

func (r *remote) client(set credentials.Set) (*bitbucket.Client, error) {
	return bitbucket.NewClient(bitbucket.Config{
		BaseURL: r.url, OAuthURL: r.oauthURL, Credentials: set.Credentials, CABundle: r.bundle, UserAgent: "runnerctl/" + version,
	})
}

// parse reads the arguments of a check; help is flag.ErrHelp.
func parse(set *flags.Set, args []string, further func()) error {
	if err := set.Read(args); err != nil {
		return err
	}
	further()
	return errors.Join(set.Faults...)
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// wrap breaks a text into lines of at most width characters, each after the first
// with the indent.
func wrap(text string, width int, indent string) string {
	var out strings.Builder
	length := 0
	for i, word := range strings.Fields(text) {
		size := len([]rune(word))
		switch {
		case i == 0:
		case length+1+size > width:
			out.WriteString("\n" + indent)
			length = 0
		default:
			out.WriteByte(' ')
			length++
		}
		out.WriteString(word)
		length += size
	}
	return out.String()
}
