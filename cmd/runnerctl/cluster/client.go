// Package cluster has the commands of runnerctl that look at a running installation: status,
// explain, logs and drain. They ask the scaler's API, through the proxy of the API server or at an
// address, and for logs and drain the API server itself.
package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

const (
	// callTimeout bounds one request.
	callTimeout = 20 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 32 << 20
	// defaultScaler is the Service of deploy/base.
	defaultScaler = "bitbucket-runner-scaler/bitbucket-runner-scaler"
)

// target says which installation is meant.
type target struct {
	kubeconfig, context, scaler, address string
	namespace                            string
	output                               string
}

func (t *target) define(set *flags.Set, outputs ...string) {
	set.StringVar(&t.kubeconfig, "kubeconfig", "", "`file` that names the cluster (default: KUBECONFIG, or ~/.kube/config)")
	set.StringVar(&t.context, "context", "", "`name` of the kubeconfig's context (default: its current one)")
	set.StringVar(&t.scaler, "scaler", defaultScaler, "`NAMESPACE/SERVICE` of the scaler, which the API server's proxy reaches")
	set.StringVar(&t.address, "address", "", "`URL` of the scaler's HTTP port, instead of the API server's proxy: http://127.0.0.1:8080")
	set.StringVarP(&t.namespace, "namespace", "n", "", "`namespace` of runner groups (default: all, or for a single name the context's)")
	if len(outputs) > 0 {
		set.Choice(&t.output, "output", "o", outputs[0], "form of the output", outputs...)
	}
}

func (t *target) check(set *flags.Set) {
	if namespace, service, found := strings.Cut(t.scaler, "/"); !found || namespace == "" || service == "" || strings.Contains(service, "/") {
		set.Fault("--scaler: %q, want NAMESPACE/SERVICE", t.scaler)
	}
	if u, err := url.Parse(t.address); t.address != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		set.Fault("--address: %q, want http://HOST:PORT", t.address)
	}
}

// loader reads the kubeconfig.
func (t *target) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = t.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: t.context})
}

// config is the access to the API server.
func (t *target) config() (*rest.Config, error) {
	config, err := t.loader().ClientConfig()
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("kubeconfig: %w; or use --address", err))
	}
	return config, nil
}

// kubernetes is the client of the API server, which --address does not replace.
func (t *target) kubernetes() (kubernetes.Interface, error) {
	config, err := t.loader().ClientConfig()
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("this command needs the API server too, and so a kubeconfig: %w", err))
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("kubeconfig: %w", err))
	}
	return client, nil
}

// client calls the scaler's API.
type client struct {
	http *http.Client
	base string
	via  string // for errors
}

// open returns a client of the installation.
func (t *target) open() (*client, error) {
	if t.address != "" {
		return &client{http: &http.Client{}, base: strings.TrimSuffix(t.address, "/") + "/api/v1", via: t.address}, nil
	}
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("kubeconfig: %w", err))
	}
	namespace, service, _ := strings.Cut(t.scaler, "/")
	server, path, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("kubeconfig: %w", err))
	}
	_ = path // of the API group, which the proxy does not have
	server.Path = strings.TrimSuffix(server.Path, "/")
	return &client{
		http: transport, via: fmt.Sprintf("Service %s through the proxy of %s", t.scaler, config.Host),
		base: fmt.Sprintf("%s/api/v1/namespaces/%s/services/http:%s:http/proxy/api/v1", server, url.PathEscape(namespace), url.PathEscape(service)),
	}, nil
}

// notFoundError says that what was asked for is not known.
type notFoundError struct{ message string }

func (e *notFoundError) Error() string { return e.message }

// get reads one answer.
func (c *client) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.ask(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("%s: GET %s: %w", c.via, path, err))
	}
	return nil
}

// ask makes a request, and returns its answer if it is a good one.
func (c *client) ask(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, exit.With(exit.Unclear, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("%s: %w", c.via, err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what could be read
	var fault api.Error
	if json.Unmarshal(body, &fault) != nil || fault.Error == "" {
		// Not the scaler's: the API server has a Status, with a message.
		var status struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(body, &status)
		why := status.Message
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable:
			why += ": no replica leads, or the Service's name is another (--scaler)"
		case resp.StatusCode == http.StatusNotFound && why == "":
			why = "this scaler has no API, it is an older version"
		case resp.StatusCode == http.StatusForbidden:
			why += ": you need the right to get services/proxy in the namespace of the scaler"
		}
		return nil, exit.With(exit.Unclear, fmt.Errorf("%s: %s: %s", c.via, resp.Status, strings.TrimPrefix(why, ": ")))
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil, &notFoundError{fault.Error}
	}
	if fault.Leader != "" {
		fault.Error += "; ask " + fault.Leader
	}
	return nil, exit.With(exit.Unclear, fmt.Errorf("%s: %s", c.via, fault.Error))
}

// watch calls seen for each update of an answer until ctx ends, and connects again if the stream
// ends. It fails if the first connection does.
func (c *client) watch(ctx context.Context, path string, seen func(data []byte) error) error {
	for first := true; ; first = false {
		connected, err := c.stream(ctx, path, seen)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the user has ended it
		}
		var stopped *stopError
		if errors.As(err, &stopped) || first && !connected {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}

// stopError is an error of the one who watches, and not of the stream.
type stopError struct{ error }

func (c *client) stream(ctx context.Context, path string, seen func(data []byte) error) (connected bool, err error) {
	resp, err := c.ask(ctx, path+"?watch=true")
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxAnswer)
	name, data := "", []byte(nil)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = append(append(data, value...), '\n')
		case field == "" && value == "" && name == "error": // the scaler no longer leads, or what is watched is gone
			return true, fmt.Errorf("%s: %s", c.via, data)
		case field == "" && value == "" && len(data) > 0:
			if err := seen(data); err != nil {
				return true, &stopError{err}
			}
			data = nil
		}
	}
	return true, lines.Err()
}
