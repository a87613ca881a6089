package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"bitbucket-runner-scaler/cmd/internal/flags"
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
	tls, tlsClientCA, kubernetes      string
	service, namespace, scalerAddress string
	podName                           string
	leaderElect                       bool
	caBundle                          string
	dryRun, unsafeScaleDown           bool
	logLevel, logFormat               string
	showVersion                       bool

	lookup func(string) (string, bool)
}

// parse reads flags and environment. The error lists every fault.
func parse(args []string, lookup func(string) (string, bool), out io.Writer) (config, error) {
	c := config{lookup: lookup, leaderElect: true}
	set := flags.New("scaler", "SCALER", out)
	set.StringVar(&c.grpcListen, "grpc-listen", ":9090", "`address` for KEDA's calls and the sidecars', health and reflection")
	set.StringVar(&c.httpListen, "http-listen", ":8080", "`address` for /healthz /readyz /metrics /status")
	set.StringVar(&c.bitbucketURL, "bitbucket-url", "https://api.bitbucket.org", "`URL` of Bitbucket Cloud's API")
	set.StringVar(&c.bitbucketOAuth, "bitbucket-oauth-url", "https://bitbucket.org/site/oauth2/access_token", "`URL` where an OAuth consumer gets its token")
	set.StringVar(&c.credentialsDir, "credentials-dir", "", "`directory` with one folder a credentials set; without it the set `default` comes from the environment (BITBUCKET_OAUTH_CLIENT_ID, ...)")
	set.StringVar(&c.cluster, "cluster", "k8s", "`name` of this cluster, part of the label that marks our runners")
	set.Duration(&c.pollInterval, "poll-interval", time.Minute, time.Nanosecond, "time between two lists of a scope's runners, at least 10s")
	set.Duration(&c.maxStaleness, "max-staleness", 3*time.Minute, time.Nanosecond, "age up to which what is known is acted on")
	set.Duration(&c.writeSettle, "write-settle", 30*time.Second, time.Nanosecond, "time that Bitbucket may take until a list shows a write")
	set.Duration(&c.orphanGrace, "orphan-grace", 5*time.Minute, time.Nanosecond, "how long a runner must have been without a pod before it is removed")
	set.Int(&c.hourlyBudget, "hourly-budget", 1000, 1, "how many calls an hour one credentials set may make at Bitbucket")
	set.StringVar(&c.tls, "tls", "auto", "`auto|off|CERT,KEY[,CA]`; auto: certificates of its own, made, renewed and published; off: plain text, which shows every runner's secret to the network; or PEM files, read again when they change")
	set.StringVar(&c.tlsClientCA, "tls-client-ca", "", "PEM `file` with the authorities of whom KEDA must show a certificate, read again when it changes; without it none is asked for")
	set.StringVar(&c.kubernetes, "kubernetes", "auto", "`auto|off`; off: answer KEDA's calls alone, for a look with grpcurl")
	set.StringVar(&c.service, "service", "bitbucket-runner-scaler", "`name` of the Service through which triggers name this installation in scalerAddress")
	set.StringVar(&c.namespace, "namespace", "", "`namespace` of this installation (default: the pod's own, from POD_NAMESPACE)")
	set.Bool(&c.leaderElect, "leader-elect", "of several replicas let one lead, by a Lease named as the Service; false: this is the only one, and two at once break what is promised (default true)")
	set.StringVar(&c.podName, "pod-name", "", "`name` of this pod, which gets the label that leads the Service to the leader (default: from POD_NAME)")
	set.StringVar(&c.scalerAddress, "scaler-address", "", "one more scalerAddress by which triggers name this installation, `host:port`")
	set.StringVar(&c.caBundle, "ca-bundle", "", "PEM `file` with certificates to trust besides the built-in ones")
	set.Bool(&c.dryRun, "dry-run", "remove no runner, only say what would be removed")
	set.Bool(&c.unsafeScaleDown, "unsafe-scale-down", "retire idle runners even where Bitbucket cannot disable them: one may lose a step that it takes in that moment")
	set.StringVar(&c.logLevel, "log-level", "info", "`debug|info|warn|error`")
	set.StringVar(&c.logFormat, "log-format", "json", "`json|console`")
	set.BoolVar(&c.showVersion, "version", false, "print the version and end")
	if err := set.Read(args); err != nil {
		return config{}, err
	}
	set.NoArguments()
	if c.namespace == "" {
		c.namespace, _ = lookup("POD_NAMESPACE")
	}
	if c.podName == "" {
		c.podName, _ = lookup("POD_NAME")
	}
	if c.showVersion {
		return c, nil
	}
	return c, errors.Join(append(set.Faults, c.faults()...)...)
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
	faults = append(faults, c.tlsFaults()...)
	choice("--kubernetes", c.kubernetes, "auto", "off")
	choice("--log-level", c.logLevel, "debug", "info", "warn", "error")
	choice("--log-format", c.logFormat, "json", "console")
	if c.kubernetes == "auto" && c.namespace == "" {
		add("--namespace: empty, want the namespace of this installation (or POD_NAMESPACE, or --kubernetes off)")
	}
	if c.elects() && c.podName == "" {
		add("--pod-name: empty, want the name of this pod (or POD_NAME, or --leader-elect=false where this is the only replica)")
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

// elects: replicas of this one may run beside it.
func (c config) elects() bool { return c.kubernetes == "auto" && c.leaderElect }

// files are the certificate, its key and, if given, the authorities to trust; false
// where --tls names none.
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
		faults = append(faults, errors.New("--tls: auto keeps its certificates in Kubernetes; with --kubernetes off want off or CERT,KEY"))
	case c.tls != "auto" && c.tls != "off":
		faults = append(faults, fmt.Errorf("--tls: %q, want auto, off or CERT,KEY[,CA]", c.tls))
	}
	if c.tlsClientCA != "" && c.tls == "off" {
		faults = append(faults, errors.New("--tls-client-ca: wants TLS, --tls is off"))
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
