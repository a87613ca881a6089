package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/status/trace/otlp"
)

// minPollInterval protects the hourly limit of 1,000 calls.
const minPollInterval = 10 * time.Second

// config is the command line; each flag may be given as an environment variable
// too: SCALER_POLL_INTERVAL for --poll-interval.
type config struct {
	grpcListen, httpListen            string
	pprofListen                       string
	webhookListen, webhookTLS         string
	bitbucketURL, bitbucketOAuth      string
	credentialsDir, cluster           string
	pollInterval, maxStaleness        time.Duration
	writeSettle, orphanGrace          time.Duration
	hourlyBudget                      int
	tls, tlsClientCA, kubernetes      string
	service, namespace, scalerAddress string
	podName                           string
	leaderElect                       bool
	caBundle                          string
	dryRun, unsafeScaleDown, page     bool
	logLevel, logFormat               string

	lookup func(string) (string, bool)
}

// newCommand returns the command. It calls serve with the configuration if the command
// line has no faults.
func newCommand(lookup func(string) (string, bool), serve func(context.Context, config) error) *cobra.Command {
	c := config{lookup: lookup, leaderElect: true}
	cmd := &cobra.Command{
		Use:   "scaler [flags]",
		Short: "Report to KEDA how many runners each runner group needs",
		Long: "scaler is the control plane: it answers KEDA's calls, registers the runners of runner Jobs, and removes surplus and lost ones.\n\n" +
			"Each flag may be given as an environment variable too: SCALER_POLL_INTERVAL for --poll-interval. Flags win.\n" +
			"OpenTelemetry's standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, ...) turn traces of the runners on.\n" +
			"Exit codes: 0 success, 1 failure, 2 wrong command line.",
		Example: "  scaler --credentials-dir /etc/bitbucket-runner-scaler/credentials --cluster k8s\n" +
			"  scaler --kubernetes off --tls off --log-format console    # answers KEDA's calls only",
	}
	set := command.Flags(cmd, "SCALER", lookup)
	c.define(set)
	showVersion := false
	set.BoolVar(&showVersion, "version", false, "print the version and exit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set.Read()
		if showVersion {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		}
		set.NoArguments(args)
		command.CheckEnvironment(cmd, set)
		if c.namespace == "" {
			c.namespace, _ = lookup("POD_NAMESPACE")
		}
		if c.podName == "" {
			c.podName, _ = lookup("POD_NAME")
		}
		set.Add(c.faults()...)
		if err := set.Err(); err != nil {
			return err
		}
		return serve(cmd.Context(), c)
	}
	cmd.AddCommand(newProbe(lookup))
	return cmd
}

func (c *config) define(set *flags.Set) {
	set.StringVar(&c.grpcListen, "grpc-listen", ":9090", "`address` for the calls of KEDA and of the sidecars, health and reflection")
	set.StringVar(&c.httpListen, "http-listen", ":8080", "`address` for the page, /api/v1, /healthz, /readyz, /metrics and /status")
	set.StringVar(&c.webhookListen, "webhook-listen", "", "`address` for the deliveries of Bitbucket's webhooks, POST /webhooks/bitbucket; without it none are taken")
	set.StringVar(&c.webhookTLS, "webhook-tls", "off", "how to secure --webhook-listen, `off|CERT,KEY`; off: plain HTTP, for an Ingress or a Gateway that ends TLS; otherwise PEM files, which are read again when they change")
	set.StringVar(&c.pprofListen, "pprof-listen", "", "loopback `address`, such as :6060, for the profiles of the Go runtime at /debug/pprof/; without it none are served")
	set.StringVar(&c.bitbucketURL, "bitbucket-url", "https://api.bitbucket.org", "`URL` of Bitbucket Cloud's API")
	set.StringVar(&c.bitbucketOAuth, "bitbucket-oauth-url", "https://bitbucket.org/site/oauth2/access_token", "`URL` where an OAuth consumer gets its token")
	set.StringVar(&c.credentialsDir, "credentials-dir", "", "`directory` with one folder per credentials set; without it the set \"default\" comes from the environment (BITBUCKET_OAUTH_CLIENT_ID, ...)")
	set.StringVar(&c.cluster, "cluster", "k8s", "`name` of this cluster, part of the label that marks our runners")
	set.Duration(&c.pollInterval, "poll-interval", time.Minute, time.Nanosecond, "time between two lists of a scope's runners, at least 10s")
	set.Duration(&c.maxStaleness, "max-staleness", 3*time.Minute, time.Nanosecond, "greatest age of a list on which the scaler acts")
	set.Duration(&c.writeSettle, "write-settle", 30*time.Second, time.Nanosecond, "how long it may take until a list from Bitbucket shows a write")
	set.Duration(&c.orphanGrace, "orphan-grace", 5*time.Minute, time.Nanosecond, "how long a runner must have been without a pod before it is removed")
	set.Int(&c.hourlyBudget, "hourly-budget", 1000, 1, "how many calls per hour one credentials set may make to Bitbucket")
	set.StringVar(&c.tls, "tls", "auto", "how to secure calls, `auto|off|CERT,KEY[,CA]`; auto: the scaler makes, renews and publishes its own certificates; off: plain text, which shows every runner's secret to the network; otherwise PEM files, which are read again when they change")
	set.StringVar(&c.tlsClientCA, "tls-client-ca", "", "PEM `file` with the authorities that must have issued KEDA's client certificate, read again when it changes; without it KEDA needs no certificate")
	set.Choice(&c.kubernetes, "kubernetes", "", "auto", "off: answer KEDA's calls only, to try it with grpcurl", "auto", "off")
	set.StringVar(&c.service, "service", "bitbucket-runner-scaler", "`name` of the Service that triggers of this installation have in scalerAddress, and of the Lease; two installations in one namespace need two names")
	set.StringVar(&c.namespace, "namespace", "", "`namespace` of this installation (default: the pod's own, from POD_NAMESPACE)")
	set.Bool(&c.leaderElect, "leader-elect", "", "let one of several replicas lead, with a Lease that has the Service's name; false: this is the only replica, and a second one must not run")
	set.StringVar(&c.podName, "pod-name", "", "`name` of this pod, which gets the label with which the Service selects the leader (default: from POD_NAME)")
	set.StringVar(&c.scalerAddress, "scaler-address", "", "another scalerAddress that triggers of this installation may have, `host:port`")
	set.StringVar(&c.caBundle, "ca-bundle", "", "PEM `file` with certificates to trust in addition to the built-in ones")
	set.BoolVar(&c.page, "page", true, "serve the page at / of --http-listen; --page=false leaves it out")
	set.Bool(&c.dryRun, "dry-run", "", "remove no runner, only report which one would be removed")
	set.Bool(&c.unsafeScaleDown, "unsafe-scale-down", "", "stop idle runners even if Bitbucket cannot disable them: a runner that takes a step at that moment loses it")
	set.Choice(&c.logLevel, "log-level", "", "info", "lowest level that is logged", "debug", "info", "warn", "error")
	set.Choice(&c.logFormat, "log-format", "", "json", "form of the log", "json", "console")
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
	if _, err := c.pprofAddress(); err != nil && c.pprofListen != "" {
		faults = append(faults, err)
	}
	for name, given := range map[string]string{"--bitbucket-url": c.bitbucketURL, "--bitbucket-oauth-url": c.bitbucketOAuth} {
		if !isWebURL(given) {
			add("%s: %q, want an http or https URL", name, given)
		}
	}
	if !clusterName.MatchString(c.cluster) {
		add("--cluster: %q, want 1 to 20 lower-case letters or digits", c.cluster)
	}
	if c.pollInterval < minPollInterval {
		add("--poll-interval: %v, want at least %v: Bitbucket allows 1,000 calls per hour", c.pollInterval, minPollInterval)
	}
	_, traceFaults := otlp.Read(c.lookup)
	faults = slices.Concat(faults, c.tlsFaults(), c.webhookFaults(), traceFaults)
	if c.kubernetes == "auto" && c.namespace == "" {
		add("--namespace: empty, want the namespace of this installation (or POD_NAMESPACE, or --kubernetes off)")
	}
	if c.elects() && c.podName == "" {
		add("--pod-name: empty, want the name of this pod (or POD_NAME, or --leader-elect=false if this is the only replica)")
	}
	for name, path := range map[string]string{"--credentials-dir": c.credentialsDir, "--ca-bundle": c.caBundle, "--tls-client-ca": c.tlsClientCA} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			add("%s: %w", name, err)
		}
	}
	return faults
}

// isWebURL reports whether text is an http or https URL to which a request can be sent.
func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Port() == "" || isPort(u.Port()))
}

// isPort reports whether text is the number of a port. 0 asks for any free one.
func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// elects reports whether there may be other replicas.
func (c config) elects() bool { return c.kubernetes == "auto" && c.leaderElect }

// files returns the paths of the certificate, its key and, if given, the authorities to
// trust. ok is false if --tls names no files.
func (c config) files() (files [3]string, ok bool) {
	parts := strings.Split(c.tls, ",")
	copy(files[:], parts)
	return files, len(parts) == 2 || len(parts) == 3
}

func (c config) tlsFaults() (faults []error) {
	files, given := c.files()
	switch {
	case given:
		for _, path := range files {
			if _, err := os.Stat(path); path != "" && err != nil {
				faults = append(faults, fmt.Errorf("--tls: %w", err))
			}
		}
		if slices.Contains(files[:2], "") {
			faults = append(faults, fmt.Errorf("--tls: %q, want CERT,KEY or CERT,KEY,CA", c.tls))
		}
	case c.tls == "auto" && c.kubernetes == "off":
		faults = append(faults, errors.New("--tls: auto stores its certificates in Kubernetes; with --kubernetes off want off or CERT,KEY"))
	case c.tls != "auto" && c.tls != "off":
		faults = append(faults, fmt.Errorf("--tls: %q, want auto, off or CERT,KEY[,CA]", c.tls))
	}
	if c.tlsClientCA != "" && c.tls == "off" {
		faults = append(faults, errors.New("--tls-client-ca: needs TLS, but --tls is off"))
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
