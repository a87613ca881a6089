package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

func checkCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check credentials, Bitbucket Cloud itself, or the image of a runner",
		Long: `check finds out whether credentials, Bitbucket Cloud and the image of a runner do what
the scaler needs.

` + checkConvention,
		Example: `  runnerctl check credentials --credentials-dir DIR --workspace acme
  runnerctl check live --workspace acme
  runnerctl check image --image REFERENCE`,
	}
	command.Group(c, "")
	c.AddCommand(credentialsCommand(lookup), liveCommand(lookup), imageCommand(lookup))
	return c
}

const checkConvention = `Each flag may be given as an environment variable too: RUNNERCTL_WORKSPACE for
--workspace. Flags win.

Exit codes: 0 all is well, 1 something is wrong, 2 wrong command line or it could not
be determined.`

// untilInterrupted ends at a signal what run looks at, but not its cleaning up, which
// is bounded: a second signal changes nothing.
func untilInterrupted(ctx context.Context, run func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return run(ctx)
}

// remote are the flags of checks that call Bitbucket.
type remote struct {
	credentialsDir, set     string
	workspace, repository   string
	url, oauthURL, caBundle string
	output                  string

	lookup func(string) (string, bool)
	bundle []byte
}

func (r *remote) define(c *cobra.Command, set *flags.Set) {
	r.defineAccess(c, set)
	defineOutput(set, &r.output)
}

// defineAccess defines the flags that say what is called, and with which credentials.
func (r *remote) defineAccess(c *cobra.Command, set *flags.Set) {
	set.StringVar(&r.credentialsDir, "credentials-dir", "", "`directory` with one folder per credentials set, as the scaler's; without it the set \"default\" comes from the environment (BITBUCKET_OAUTH_CLIENT_ID, ...)")
	set.StringVar(&r.workspace, "workspace", "", "`slug` or {uuid} of a workspace")
	set.StringVar(&r.repository, "repository", "", "`slug` or {uuid} of a repository of the workspace, for runners of that repository")
	set.StringVar(&r.url, "bitbucket-url", bitbucket.DefaultBaseURL, "`URL` of Bitbucket Cloud's API")
	set.StringVar(&r.oauthURL, "bitbucket-oauth-url", bitbucket.DefaultOAuthURL, "`URL` where an OAuth consumer gets its token")
	set.StringVar(&r.caBundle, "ca-bundle", "", "PEM `file` with certificates to trust besides the system's")
	c.ValidArgsFunction = cobra.NoFileCompletions
	_ = c.MarkFlagDirname("credentials-dir") // these fail for an unknown flag
	_ = c.MarkFlagFilename("ca-bundle", "pem", "crt")
}

func defineOutput(set *flags.Set, into *string) {
	set.Choice(into, "output", "o", "text", "form of the report", "text", "json")
}

// check adds what is wrong with the flags to the set's faults.
func (r *remote) check(set *flags.Set) {
	switch {
	case r.workspace == "" && r.repository != "":
		set.Fault("--repository: %q, want --workspace too", r.repository)
	case r.workspace != "":
		if err := r.scope().Validate(); err != nil {
			set.Add(err)
		}
	}
	// The faults of the addresses are reported once, and not for each set.
	probe := bitbucket.Config{BaseURL: r.url, OAuthURL: r.oauthURL, Credentials: bitbucket.Credentials{AccessToken: "none"}}
	if r.caBundle != "" {
		var err error
		if r.bundle, err = os.ReadFile(r.caBundle); err != nil {
			set.Fault("--ca-bundle: %w", err)
		}
		probe.CABundle = r.bundle
	}
	if err := probe.Validate(); err != nil {
		set.Add(err)
	}
}

func (r *remote) scope() bitbucket.Scope {
	return bitbucket.Scope{Workspace: r.workspace, Repository: r.repository}
}

// sets are the credentials sets that the flags name.
func (r *remote) sets() ([]credentials.Set, error) {
	sets, err := credentials.Inspect(r.credentialsDir, r.lookup)
	if err != nil {
		return nil, exit.With(exit.Unclear, err)
	}
	if r.set == "" {
		return sets, nil
	}
	names := make([]string, 0, len(sets))
	for _, set := range sets {
		if set.Name == r.set {
			return []credentials.Set{set}, nil
		}
		names = append(names, set.Name)
	}
	slices.Sort(names)
	return nil, exit.With(exit.Unclear, fmt.Errorf("--credentials: %q, want one of %s", r.set, strings.Join(names, ", ")))
}

func (r *remote) client(set credentials.Set) (*bitbucket.Client, error) {
	return bitbucket.NewClient(bitbucket.Config{
		BaseURL: r.url, OAuthURL: r.oauthURL, Credentials: set.Credentials, CABundle: r.bundle, UserAgent: "runnerctl/" + built().Version,
	})
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// wrap breaks a text into lines of at most width characters. Each line after the first
// begins with the indent.
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
