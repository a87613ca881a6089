package wrapper

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestTheLastLineHasNoSecret(t *testing.T) {
	environment := []string{
		"OAUTH_CLIENT_SECRET=" + secret, "DB_PASSWORD=hunter2-and-more", "SHORT=abc", "PWD=/opt/atlassian/runner", "PROXY_PASSWORD=Tr0ub4dor&3xyz\n",
		"USER=deploy-bot", "PASS=deploy-bot-X7!q", "CONFIG=user: x\r\n  password: line-of-many\r\n", `PW=pa"ss\wörd1`, "PHRASE=correct horse+battery",
	}
	long := strings.Repeat("a1", 20)
	for name, c := range map[string]struct{ line, want string }{
		"plain":                 {"sh: /opt/atlassian/runner/entrypoint.sh: not found", "sh: /opt/atlassian/runner/entrypoint.sh: not found"},
		"the runner's secret":   {"bad secret '" + secret + "', " + secret, withheld},
		"a variable's value":    {"login failed: hunter2-and-more", withheld},
		"a trailing newline":    {"proxy refused user ci with Tr0ub4dor&3xyz", withheld},
		"a longer value":        {"login failed: deploy-bot-X7!q", withheld},
		"a line of a value":     {"bad line: password: line-of-many", withheld},
		"in JSON":               {`{"password":"pa\"ss\\w\u00f6rd1"}`, withheld},
		"in JSON for HTML":      {`{"password":"Tr0ub4dor\u00263xyz"}`, withheld},
		"in a URL":              {"GET http://h/?p=Tr0ub4dor%263xyz failed", withheld},
		"in a form":             {"p=correct+horse%2bbattery&q=100%", withheld},
		"what looks like one":   {"token " + long + " refused", "token [redacted] refused"},
		"user info of a proxy":  {"proxy http://me:pw@proxy:3128 refused", "proxy http://[redacted]@proxy:3128 refused"},
		"control characters":    {"\x1b[31mred\x1b[0m\tabc", "[31mred[0mabc"},
		"a short value":         {"abc", "abc"},
		"a line that is cut":    {strings.Repeat("x ", maxLine), ""},
		"a secret at its bound": {strings.Repeat("x ", maxLastLine/2-5) + secret, withheld},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLastLine(environment)
			s := scanner{observe: func(announcement) {}, keep: l.keep}
			s.scan([]byte("before\n" + c.line))
			s.end()
			if got := l.text(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheEndOfARunnerIsReportedWithItsLastLine(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   socket.Message
	}{
		"before its first step": {`echo one >&2; echo "no $OAUTH_CLIENT_SECRET" >&2; exit 3`, socket.Message{Type: socket.TypeEnded, ExitCode: 3, LastLine: withheld}},
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
