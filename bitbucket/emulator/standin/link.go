package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/agent"
)

const (
	callTimeout = 10 * time.Second
	maxAnswer   = 1 << 20
)

// statusError is an unexpected answer.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

// refused reports whether an answer will be the same for another try.
func refused(err error, status int) bool {
	var answer *statusError
	return errors.As(err, &answer) && answer.status == status
}

// link is the connection to the emulator.
type link struct {
	config Config
	client *http.Client
	base   string
	token  string
}

func newLink(config Config) (*link, error) {
	u, err := url.Parse(config.TokenEndpoint)
	if err != nil {
		return nil, fmt.Errorf("OAUTH_TOKEN_ENDPOINT: %w", err)
	}
	transport := config.Transport
	if transport == nil {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute}
	}
	return &link{config: config, client: &http.Client{Timeout: callTimeout, Transport: transport}, base: u.Scheme + "://" + u.Host}, nil
}

func (l *link) close() { l.client.CloseIdleConnections() }

// authenticate gets the token of this process. From then on the runner is ONLINE.
func (l *link) authenticate(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.config.TokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	req.SetBasicAuth(l.config.ClientID, l.config.ClientSecret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if _, err := l.do(req, &token); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	l.token = token.AccessToken
	return nil
}

func (l *link) heartbeat(ctx context.Context) error {
	_, err := l.call(ctx, http.MethodPost, agent.HeartbeatPath, nil, nil)
	return err
}

// step returns the runner's step, if it has one.
func (l *link) step(ctx context.Context) (assigned agent.Assignment, ok bool, err error) {
	status, err := l.call(ctx, http.MethodGet, agent.StepPath, nil, &assigned)
	return assigned, err == nil && status == http.StatusOK, err
}

func (l *link) result(ctx context.Context, result agent.Result) error {
	_, err := l.call(ctx, http.MethodPost, agent.ResultPath, result, nil)
	return err
}

func (l *link) call(ctx context.Context, method, path string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("%s %s: encode: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.base+path, body)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+l.token)
	if status, err = l.do(req, out); err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return status, nil
}

func (l *link) do(req *http.Request, out any) (status int, err error) {
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusNoContent:
	case http.StatusOK:
		if err := json.Unmarshal(data, out); err != nil {
			return 0, fmt.Errorf("decode answer: %w", err)
		}
	default:
		return 0, &statusError{status: resp.StatusCode, text: string(bytes.TrimSpace(data))}
	}
	return resp.StatusCode, nil
}
