package flags

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestMisspeltVariablesAreFaults(t *testing.T) {
	for environment, want := range map[string]string{
		"P_POLL_INTERVALL=1s": "P_POLL_INTERVALL: unknown variable, did you mean P_POLL_INTERVAL?",
		"P_POL_INTERVAL=1s":   "did you mean P_POLL_INTERVAL?",
		"P_WORKSPCE=acme":     "did you mean P_WORKSPACE?", // of another command
		"P_COLOUR=":           "P_COLOUR: unknown variable, want the name of a flag after P_",
		"P_POLL_INTERVAL=1s":  "", "P_WORKSPACE=acme": "", "OTHER_POLL=1": "", "PX=1": "",
		// Kubernetes sets these for a Service with the name p.
		"P_SERVICE_HOST=10.0.0.1": "", "P_SERVICE_PORT=1": "", "P_SERVICE_PORT_GRPC=1": "", "P_PORT=tcp://x": "", "P_PORT_9090_TCP=x": "", "P_PORT_9090_TCP_ADDR=x": "",
	} {
		set := New(pflag.NewFlagSet("t", pflag.ContinueOnError), "P", func(string) (string, bool) { return "", false })
		set.Duration(new(time.Duration), "poll-interval", time.Minute, 0, "")
		set.CheckEnvironment(strings.Fields(environment), "workspace")
		switch err := set.Err(); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", environment, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", environment, err, want)
		}
	}
}
