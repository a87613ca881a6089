package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/probe"
)

func TestEveryGoodSetIsReportedWholly(t *testing.T) {
	url, server := emulator.NewTestServer(t, emulator.Options{})
	got := runCheck(t, url, nil, "credentials", "--credentials-dir", everySet(t), "--workspace", "acme")
	if got.code != 0 || got.stderr != "4 sets: all is well\n" {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	for _, want := range []string{
		"access-token (", "api-token (", "app-password (", "consumer (", "kind           OAuth consumer", "Atlassian has announced its end",
		"has            write:runner:bitbucket: for registering", "works          acme: list runners: 0 registered, room for 100",
		"namespaces     team-a, team-b", "the limit is 1000, more than a fifth of it is left",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "WRONG") || len(server.State().Runners) > 0 {
		t.Errorf("something is wrong, or was changed:\n%s", got.stdout)
	}
}

func TestTheExitCodeOfCredentialsSaysHowItStands(t *testing.T) {
	good := map[string]string{"BITBUCKET_ACCESS_TOKEN": emulator.AccessToken}
	for name, c := range map[string]struct {
		environment map[string]string
		files       map[string]string // of a set "team"
		args        []string
		faults      []emulator.FaultRule
		code        int
		says        string
	}{
		"good":                    {environment: good, args: []string{"--workspace", "acme"}, says: "default (environment)"},
		"no workspace":            {environment: good, says: "give --workspace"},
		"nothing":                 {code: 1, says: "no credentials: want one of"},
		"no such set":             {environment: good, args: []string{"--credentials", "x"}, code: 2, says: `--credentials: "x", want one of default`},
		"only reads":              {environment: map[string]string{"BITBUCKET_ACCESS_TOKEN": emulator.ReadOnlyToken}, code: 1, says: "lacks the scope runner:write"},
		"refused":                 {environment: map[string]string{"BITBUCKET_ACCESS_TOKEN": "not-known"}, args: []string{"--workspace", "acme"}, code: 1, says: "credentials were refused"},
		"forbidden":               {environment: good, args: []string{"--workspace", "acme"}, faults: []emulator.FaultRule{{Path: "*/runners", Status: 403}}, code: 1, says: "does not work  acme: list runners: 403: Forbidden"},
		"throttled":               {environment: good, args: []string{"--workspace", "acme"}, faults: []emulator.FaultRule{{Path: "*/runners", Status: 429}}, code: 2, says: "used up for now"},
		"out of reach":            {environment: good, faults: []emulator.FaultRule{{Status: 503}}, code: 2, says: "UNCLEAR"},
		"a file too many":         {files: map[string]string{"bitbucketAccessToken": emulator.AccessToken, "namespaces": "*", "note": "x"}, code: 1, says: "note: unknown key, want bitbucketOauthClientId, "},
		"no namespace":            {files: map[string]string{"bitbucketAccessToken": emulator.AccessToken}, code: 1, says: "no namespace may use the set"},
		"its own workspace":       {files: map[string]string{"bitbucketAccessToken": emulator.AccessToken, "namespaces": "*", "workspaces": "acme"}, says: "works          acme: list runners"},
		"of another workspace":    {environment: good, files: map[string]string{"bitbucketAccessToken": emulator.AccessToken, "namespaces": "*", "workspaces": emulator.WorkspaceUUID}, args: []string{"--workspace", "acme"}, says: "works          " + emulator.WorkspaceUUID + ": list runners"},
		"another than its own":    {files: map[string]string{"bitbucketAccessToken": emulator.AccessToken, "namespaces": "*", "workspaces": "nobody", "labels": "a.*"}, code: 1, says: "nobody: list runners: 404"},
		"one of two":              {environment: good, files: map[string]string{"bitbucketAccessToken": ""}, code: 1, says: "bitbucketAccessToken: empty"},
		"one of two, not chosen":  {environment: good, files: map[string]string{"bitbucketAccessToken": ""}, args: []string{"--credentials", "default"}, says: "default (environment)"},
		"a repository alone":      {environment: good, args: []string{"--repository", "app"}, code: 2, says: "want --workspace too"},
		"bad flags, all at once":  {environment: good, args: []string{"--workspace", "a/b", "-o", "xml", "more"}, code: 2, says: `--output: "xml", want text or json`},
		"a bundle that is not":    {environment: good, args: []string{"--ca-bundle", "/not/there"}, code: 2, says: "--ca-bundle: open /not/there"},
		"a directory that is not": {args: []string{"--credentials-dir", "/not/there"}, code: 2, says: "credentials directory: open /not/there"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := emulator.NewTestServer(t, emulator.Options{})
			if err := emulator.NewControl(url).SetFaults(t.Context(), c.faults); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"credentials"}, c.args...)
			if c.files != nil {
				dir := t.TempDir()
				writeSet(t, dir, "team", c.files)
				args = append([]string{"credentials", "--credentials-dir", dir}, c.args...)
			}
			got := runCheck(t, url, c.environment, args...)
			if got.code != c.code || !strings.Contains(got.printed(), c.says) {
				t.Errorf("got code %d, want %d, and %q in %s", got.code, c.code, c.says, got.printed())
			}
		})
	}
}

func TestCredentialsAsJSON(t *testing.T) {
	url, _ := emulator.NewTestServer(t, emulator.Options{})
	got := runCheck(t, url, nil, "credentials", "--credentials-dir", everySet(t), "-o", "json", "--workspace", "acme")
	var reported struct{ Sets []setReport }
	if err := json.Unmarshal([]byte(got.stdout), &reported); err != nil || len(reported.Sets) != 4 {
		t.Fatalf("%v: %s", err, got.stdout)
	}
	for _, set := range reported.Sets {
		if set.Account == nil || len(set.Account.Scopes) == 0 || len(set.Account.Works) != 3 || len(set.Serves.Namespaces) == 0 {
			t.Errorf("got %+v", set)
		}
	}
}

func TestLiveDoesNothingWithoutConsent(t *testing.T) {
	url, server := emulator.NewTestServer(t, emulator.Options{})
	environment := map[string]string{"BITBUCKET_ACCESS_TOKEN": emulator.AccessToken}
	got := runCheck(t, url, environment, "live", "--workspace", "acme", "--repository", "app")
	if got.code != 0 || !strings.Contains(got.stdout, "With --yes this would, in acme/app") || !strings.Contains(got.stdout, "Nothing was done.") {
		t.Errorf("exit code %d: %s", got.code, got.printed())
	}
	if calls := server.State().Counters.Calls; len(calls) > 0 {
		t.Errorf("calls were made: %v", calls)
	}
}

func TestLiveReportsWhatHoldsAndLeavesNothing(t *testing.T) {
	environment := map[string]string{"BITBUCKET_OAUTH_CLIENT_ID": emulator.OAuthClientID, "BITBUCKET_OAUTH_CLIENT_SECRET": emulator.OAuthClientSecret}
	for name, c := range map[string]struct {
		options emulator.Options
		faults  []emulator.FaultRule
		args    []string
		code    int
		says    []string
	}{
		"all holds":        {says: []string{"HOLDS              `PUT /internal/…/state` disables a runner", "nothing was left behind"}},
		"with refusals":    {args: []string{"--refusals"}, says: []string{"found: 409: A runner with uuid"}},
		"no disabling":     {faults: []emulator.FaultRule{{Path: "/internal/*/state", Status: 404}}, code: 1, says: []string{"DOES NOT HOLD      `PUT /internal/…/state`", "found: 404", "unless `--unsafe-scale-down`", "nothing was left behind"}},
		"steps are hidden": {options: emulator.Options{HideStep: true}, says: []string{"COULD NOT BE SEEN  lists of API 2.0 show the step", "on an idle one `step` is absent"}},
		"throttled":        {faults: []emulator.FaultRule{{Method: "PUT", Status: 429}}, code: 2, says: []string{"429", "nothing was left behind"}},
		"forbidden":        {faults: []emulator.FaultRule{{Method: "POST", Path: "*/runners", Status: 403}}, code: 2, says: []string{"the registration was refused: 403", "nothing was left behind"}},
	} {
		t.Run(name, func(t *testing.T) {
			url, server := emulator.NewTestServer(t, c.options)
			if err := emulator.NewControl(url).SetFaults(t.Context(), c.faults); err != nil {
				t.Fatal(err)
			}
			got := runCheck(t, url, environment, append([]string{"live", "--workspace", "acme", "--yes", "--write-settle", "1s"}, c.args...)...)
			if got.code != c.code {
				t.Errorf("got code %d, %s, want %d", got.code, got.stderr, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(got.printed(), want) {
					t.Errorf("no %q in:\n%s", want, got.printed())
				}
			}
			if runners := server.State().Runners; len(runners) > 0 {
				t.Errorf("left: %+v", runners)
			}
		})
	}
}

func TestLiveAsJSONAndItsFaults(t *testing.T) {
	url, _ := emulator.NewTestServer(t, emulator.Options{})
	environment := map[string]string{"BITBUCKET_ACCESS_TOKEN": emulator.AccessToken}
	got := runCheck(t, url, environment, "live", "--workspace", "acme", "--yes", "-o", "json")
	var report probe.Report
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || report.Count(probe.Holds) < 12 || !strings.HasPrefix(report.Runner, probe.NamePrefix) {
		t.Errorf("%v: %s", err, got.stdout)
	}
	for name, c := range map[string]struct {
		environment map[string]string
		args        []string
		says        string
	}{
		"no workspace":   {environment, nil, "--workspace: missing"},
		"no credentials": {nil, []string{"--workspace", "acme"}, "no credentials: want one of"},
		"bad settle":     {environment, []string{"--write-settle", "0s"}, `--write-settle: "0s"`},
	} {
		if got := runCheck(t, url, c.environment, append([]string{"live"}, c.args...)...); got.code != 2 || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%s: exit code %d: %s, want 2 and %q", name, got.code, got.stderr, c.says)
		}
	}
}

func TestInterruptsDoNotKeepLiveFromTidyingUp(t *testing.T) {
	url, server := emulator.NewTestServer(t, emulator.Options{})
	control := emulator.NewControl(url)
	if err := control.SetFaults(t.Context(), []emulator.FaultRule{{Method: "PUT", Latency: "5s"}, {Method: "DELETE", Latency: "300ms"}}); err != nil {
		t.Fatal(err)
	}
	command, stdout, stderr := start(t, []string{"BITBUCKET_ACCESS_TOKEN=" + emulator.AccessToken},
		"check", "live", "--workspace", "acme", "--yes", "--bitbucket-url", url, "--bitbucket-oauth-url", url+"/x")
	waitFor(t, func() bool { return len(server.State().Runners) == 1 })
	waitFor(t, func() bool { return called(server, "PUT") })
	for range 2 { // an impatient user's
		if err := command.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		waitFor(t, func() bool { return called(server, "DELETE") })
	}
	err := command.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(stderr.String(), "check live: interrupted") || !strings.Contains(stdout.String(), "nothing was left behind") {
		t.Errorf("got %v\n%s%s", err, stdout, stderr)
	}
	if runners := server.State().Runners; len(runners) > 0 {
		t.Errorf("left: %+v", runners)
	}
}

func TestAnImageIsReportedOn(t *testing.T) {
	online := `echo 'Updating runner status to "ONLINE" and checking for new steps'; `
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"it comes online and ends": {[]string{"--for", "200ms", "--", "sh", "-c", online + "exec sleep 60"}, 0, "exit code 143"},
		"it does not end":          {[]string{"--for", "200ms", "--stop-grace", "100ms", "--", "sh", "-c", "trap '' TERM; " + online + "while :; do sleep 0.05; done"}, 1, "was killed"},
		"it ends by itself":        {[]string{"--", "sh", "-c", "exit 3"}, 2, "it ended by itself"},
		"as JSON":                  {[]string{"--image", "x:1", "--for", "200ms", "-o", "json", "--", "sh", "-c", online + "exec sleep 60"}, 0, `"tells": "online"`},
		"no such command":          {[]string{"--", "/not/there"}, 2, "find the runner's command"},
		"nothing given":            {nil, 2, "command: none given"},
		"an image alone":           {[]string{"--image", "x:1"}, 0, "x:1 check image -- /opt/atlassian/pipelines/runner/entrypoint.sh"},
		"an unpacked one":          {[]string{"--root", "/", "--", "/bin/sh"}, 0, "another was read: /bin/sh"},
		"one without it":           {[]string{"--root", t.TempDir()}, 1, "is not in the image"},
		"no folder":                {[]string{"--root", "/not/there"}, 2, "want a directory with the unpacked image"},
	} {
		t.Run(name, func(t *testing.T) {
			command, stdout, stderr := start(t, nil, append([]string{"check", "image"}, c.args...)...)
			err := command.Wait()
			if code := command.ProcessState.ExitCode(); code != c.code || !strings.Contains(stdout.String()+stderr.String(), c.says) {
				t.Errorf("got code %d, %v, want %d and %q in\n%s%s", code, err, c.code, c.says, stdout, stderr)
			}
		})
	}
}

func TestFlagsOfChecksAreReadFromTheEnvironment(t *testing.T) {
	url, _ := emulator.NewTestServer(t, emulator.Options{})
	environment := map[string]string{
		"BITBUCKET_ACCESS_TOKEN": emulator.AccessToken, "RUNNERCTL_WORKSPACE": "acme", "RUNNERCTL_OUTPUT": "json", "RUNNERCTL_BITBUCKET_URL": url,
	}
	if got := runCheck(t, "", environment, "credentials"); got.code != 0 || !strings.Contains(got.stdout, `"acme: `) && !strings.Contains(got.stdout, `"acme"`) {
		t.Errorf("exit code %d: %s", got.code, got.printed())
	}
	environment["RUNNERCTL_OUTPUT"] = "xml"
	if got := runCheck(t, "", environment, "credentials", "-o", "text"); got.code != 0 || strings.HasPrefix(got.stdout, "{") {
		t.Errorf("a flag does not win over the environment: exit code %d: %s", got.code, got.printed())
	}
}

func TestAMisspeltVariableIsAFault(t *testing.T) {
	t.Setenv("RUNNERCTL_WORKSPCE", "acme")
	t.Setenv("RUNNERCTL_WRITE_SETTLE", "30s") // of check live
	for _, command := range []string{"credentials", "live", "image"} {
		got := runs(t, nil, "", "check", command)
		if got.code != 2 || !strings.Contains(got.stderr, "RUNNERCTL_WORKSPCE: unknown variable, did you mean RUNNERCTL_WORKSPACE?") || strings.Contains(got.stderr, "SETTLE") {
			t.Errorf("check %s: exit code %d, %s", command, got.code, got.stderr)
		}
	}
}
