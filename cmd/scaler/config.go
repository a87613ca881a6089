package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// minPollInterval protects the hourly allowance of 1,000 calls.
const minPollInterval = 10 * time.Second

// config is the command line; each flag may be given as an environment variable
// too: SCALER_POLL_INTERVAL for --poll-interval.
type config struct {
	grpcListen, httpListen            string
	bitbucketURL, bitbucketOAuth      string
	credentialsDir, cluster           string
	pollInterval, maxStaleness        time.Duration
	writeSettle, orphanGrace          time.Duration
	hourlyBudget                      int
	tls, kubernetes                   string
	service, namespace, scalerAddress string
	caBundle                          string
	dryRun, unsafeScaleDown           bool
	logLevel, logFormat               string
	showVersion                       bool

	lookup func(string) (string, bool)
}

// parse reads flags and environment. The error lists every fault.
func parse(args []string, lookup func(string) (string, bool), out io.Writer) (config, error) {
	c := config{lookup: lookup}
	flags := flag.NewFlagSet("scaler", flag.ContinueOnError)
	flags.SetOutput(out)
	var faults []error
	flags.StringVar(&c.grpcListen, "grpc-listen", ":9090", "`address` for KEDA's calls and the sidecars', health and reflection")
	flags.StringVar(&c.httpListen, "http-listen", ":8080", "`address` for /healthz /readyz /metrics /status")
	flags.StringVar(&c.bitbucketURL, "bitbucket-url", "https://api.bitbucket.org", "`URL` of Bitbucket Cloud's API")
	flags.StringVar(&c.bitbucketOAuth, "bitbucket-oauth-url", "https://bitbucket.org/site/oauth2/access_token", "`URL` where an OAuth consumer gets its token")
	flags.StringVar(&c.credentialsDir, "credentials-dir", "", "`directory` with one folder a credentials set; without it the set `default` comes from the environment (BITBUCKET_OAUTH_CLIENT_ID, ...)")
	flags.StringVar(&c.cluster, "cluster", "k8s", "`name` of this cluster, part of the label that marks our runners")
	durationVar(flags, &c.pollInterval, &faults, "poll-interval", time.Minute, "time between two lists of a scope's runners, at least 10s")
	durationVar(flags, &c.maxStaleness, &faults, "max-staleness", 3*time.Minute, "age up to which what is known is acted on")
	durationVar(flags, &c.writeSettle, &faults, "write-settle", 30*time.Second, "time that Bitbucket may take until a list shows a write")
	durationVar(flags, &c.orphanGrace, &faults, "orphan-grace", 5*time.Minute, "how long a runner must have been without a pod before it is removed")
	intVar(flags, &c.hourlyBudget, &faults, "hourly-budget", 1000, "how many calls an hour one credentials set may make at Bitbucket")
	flags.StringVar(&c.tls, "tls", "", "`off`: plain text between KEDA, the sidecars and the scaler; required, so that nobody runs without TLS unawares")
	flags.StringVar(&c.kubernetes, "kubernetes", "auto", "`auto|off`; off: answer KEDA's calls alone, for a look with grpcurl")
	flags.StringVar(&c.service, "service", "bitbucket-runner-scaler", "`name` of the Service through which triggers name this installation in scalerAddress")
	flags.StringVar(&c.namespace, "namespace", "", "`namespace` of this installation (default: the pod's own, from POD_NAMESPACE)")
	flags.StringVar(&c.scalerAddress, "scaler-address", "", "one more scalerAddress by which triggers name this installation, `host:port`")
	flags.StringVar(&c.caBundle, "ca-bundle", "", "PEM `file` with certificates to trust besides the built-in ones")
	boolVar(flags, &c.dryRun, &faults, "dry-run", "remove no runner, only say what would be removed")
	boolVar(flags, &c.unsafeScaleDown, &faults, "unsafe-scale-down", "retire idle runners even where Bitbucket cannot disable them: one may lose a step that it takes in that moment")
	flags.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	flags.StringVar(&c.logFormat, "log-format", "json", "`json|console`")
	flags.BoolVar(&c.showVersion, "version", false, "print the version and end")
	if err := ff.Parse(flags, args, ff.WithEnvVarPrefix("SCALER")); err != nil {
		return config{}, err
	}
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("arguments: %q, want none, only flags", flags.Args()))
	}
	if c.namespace == "" {
		c.namespace, _ = lookup("POD_NAMESPACE")
	}
	if c.showVersion {
		return c, nil
	}
	return c, errors.Join(append(faults, c.faults()...)...)
}

// durationVar is a duration flag whose fault does not hide the other flags'.
func durationVar(flags *flag.FlagSet, into *time.Duration, faults *[]error, name string, value time.Duration, usage string) {
	*into = value
	flags.Func(name, fmt.Sprintf("`duration`: %s (default %v)", usage, value), func(given string) error {
		d, err := time.ParseDuration(given)
		if err != nil || d <= 0 {
			*faults = append(*faults, fmt.Errorf("--%s: %q, want a positive duration such as %v", name, given, value))
			return nil //nolint:nilerr // kept in faults, so that the others are found too
		}
		*into = d
		return nil
	})
}

// intVar and boolVar are flags of other types, likewise.
func intVar(flags *flag.FlagSet, into *int, faults *[]error, name string, value int, usage string) {
	*into = value
	flags.Func(name, fmt.Sprintf("`number`: %s (default %d)", usage, value), func(given string) error {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 {
			*faults = append(*faults, fmt.Errorf("--%s: %q, want a whole number, at least 1", name, given))
			return nil //nolint:nilerr // kept in faults, so that the others are found too
		}
		*into = n
		return nil
	})
}

func boolVar(flags *flag.FlagSet, into *bool, faults *[]error, name, usage string) {
	flags.BoolFunc(name, usage, func(given string) error {
		set, err := strconv.ParseBool(given)
		if err != nil {
			*faults = append(*faults, fmt.Errorf("--%s: %q, want true or false", name, given))
			return nil //nolint:nilerr // kept in faults, so that the others are found too
		}
		*into = set
		return nil
	})
}

var clusterName = regexp.MustCompile(`^[a-z0-9]{1,20}$`)

func (c config) faults() []error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for name, address := range map[string]string{"--grpc-listen": c.grpcListen, "--http-listen": c.httpListen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			add("%s: %q, want host:port or :port", name, address)
		}
	}
	for name, given := range map[string]string{"--bitbucket-url": c.bitbucketURL, "--bitbucket-oauth-url": c.bitbucketOAuth} {
		if u, err := url.Parse(given); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			add("%s: %q, want an http or https URL", name, given)
		}
	}
	if !clusterName.MatchString(c.cluster) {
		add("--cluster: %q, want 1 to 20 lower-case letters or digits", c.cluster)
	}
	if c.pollInterval < minPollInterval {
		add("--poll-interval: %v, want at least %v: Bitbucket allows 1,000 calls an hour", c.pollInterval, minPollInterval)
	}
	choice := func(name, given string, accepted ...string) {
		if !slices.Contains(accepted, given) {
			add("%s: %q, want %s", name, given, strings.Join(accepted, " or "))
		}
	}
	choice("--tls", c.tls, "off")
	choice("--kubernetes", c.kubernetes, "auto", "off")
	choice("--log-level", c.logLevel, "debug", "info", "warn", "error")
	choice("--log-format", c.logFormat, "json", "console")
	if c.kubernetes == "auto" && c.namespace == "" {
		add("--namespace: empty, want the namespace of this installation (or POD_NAMESPACE, or --kubernetes off)")
	}
	for name, path := range map[string]string{"--credentials-dir": c.credentialsDir, "--ca-bundle": c.caBundle} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			add("%s: %w", name, err)
		}
	}
	return faults
}

func (c config) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.logLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	settings := zap.NewProductionConfig()
	settings.Encoding = c.logFormat
	settings.Level = zap.NewAtomicLevelAt(level)
	settings.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	settings.DisableStacktrace = true
	return settings.Build()
}
