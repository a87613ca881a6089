package wrapper

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestTheLastLineHasNoSecret(t *testing.T) {
	environment := []string{"OAUTH_CLIENT_SECRET=" + secret, "DB_PASSWORD=hunter2-and-more", "SHORT=abc", "PWD=/opt/atlassian/runner"}
	long := strings.Repeat("a1", 20)
	for name, c := range map[string]struct{ line, want string }{
		"plain":                 {"sh: /opt/atlassian/runner/entrypoint.sh: not found", "sh: /opt/atlassian/runner/entrypoint.sh: not found"},
		"the runner's secret":   {"bad secret '" + secret + "', " + secret, "bad secret '[redacted]', [redacted]"},
		"a variable's value":    {"login failed: hunter2-and-more", "login failed: [redacted]"},
		"what looks like one":   {"token " + long + " refused", "token [redacted] refused"},
		"user info of a proxy":  {"proxy http://me:pw@proxy:3128 refused", "proxy http://[redacted]@proxy:3128 refused"},
		"control characters":    {"\x1b[31mred\x1b[0m\tabc", "[31mred[0mabc"},
		"a short value":         {"abc", "abc"},
		"a line that is cut":    {strings.Repeat("x ", maxLine), ""},
		"a secret at its bound": {strings.Repeat("x ", maxLastLine/2-5) + secret, strings.Repeat("x ", maxLastLine/2-5) + redacted},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLastLine(environment)
			s := scanner{observe: func(event, string) {}, keep: l.keep}
			s.scan([]byte("before\n" + c.line))
			s.end()
			if got := l.text(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := newLastLine(environment); strings.Contains(got.text(), secret) || len(got.secrets) != 2 {
		t.Errorf("%d fingerprints, want 2", len(got.secrets))
	}
}

func TestTheEndOfARunnerIsReportedWithItsLastLine(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   socket.Message
	}{
		"before its first step": {`echo one >&2; echo "no $OAUTH_CLIENT_SECRET" >&2; exit 3`, socket.Message{Type: socket.TypeEnded, ExitCode: 3, LastLine: "no [redacted]"}},
		"after a step":          {sidecartest.Online + sidecartest.Step + sidecartest.Completed + "echo of a build; exit 3", socket.Message{Type: socket.TypeEnded, ExitCode: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveEnvironment(t)
			sidecartest.StartExec(t, s.dir, c.script).ExitCode(t)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.end.ExitCode != c.want.ExitCode || s.end.LastLine != c.want.LastLine {
				t.Errorf("got %+v, want %+v", s.end, c.want)
			}
		})
	}
}
