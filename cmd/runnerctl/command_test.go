package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/jobfactory/lint"
)

// words splits a command line; none of the tests' words has a space.
func words(line string) []string { return strings.Fields(line) }

func TestOneConventionOfExitCodesForAllCommands(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad, occupied := file("good.yaml", goodGroup), file("bad.yaml", wrong), file("occupied", "")
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"help":                              {0, "Available Commands:"},
		"--help":                            {0, "Exit codes of all commands:"},
		"help render":                       {0, "runnerctl render -f FILE [-o DIR]"},
		"render -h":                         {0, "runnerctl render -f FILE [-o DIR]"},
		"check --help":                      {0, "credentials"},
		"check live -h":                     {0, "--write-settle duration"},
		"version":                           {0, "runnerctl "},
		"--version":                         {0, "dev"},
		"schema":                            {0, "\"$defs\""},
		"completion bash":                   {0, "bash completion V2 for runnerctl"},
		"completion zsh":                    {0, "#compdef runnerctl"},
		"completion fish":                   {0, "fish completion for runnerctl"},
		"completion powershell":             {0, "powershell completion for runnerctl"},
		"render -f " + good:                 {0, "kind: ScaledJob"},
		"lint " + good:                      {0, "1 file, 1 group: no findings"},
		"lint --rules":                      {0, "config-invalid"},
		"check image --image x:1":           {0, "docker run"},
		"render -f " + bad:                  {1, "line 2: groups[0]"},
		"render -f " + good + " -o " + good: {1, "good.yaml"},
		"render --job-template " + occupied + " -f " + good: {1, "occupied"},
		"lint " + bad:                           {1, "1 error"},
		"lint -f " + bad:                        {1, "1 error"},
		"check image --root " + dir:             {1, "is not in the image"},
		"check credentials":                     {1, "no credentials"},
		"":                                      {2, "no command given, want check, "},
		"rendre":                                {2, `unknown command "rendre", did you mean render?`},
		"rendre -f x":                           {2, `unknown command "rendre", did you mean render?`},
		"frobnicate":                            {2, `unknown command "frobnicate", want check, completion, `},
		"help rendre":                           {2, `unknown command "rendre", did you mean render?`},
		"check":                                 {2, "no command given, want credentials, image or live"},
		"check creds":                           {2, `unknown command "creds", want credentials, image or live`},
		"check credentialz":                     {2, `did you mean credentials?`},
		"completion":                            {2, "no command given, want bash, fish, powershell or zsh"},
		"completion bsh":                        {2, `unknown command "bsh", did you mean bash`},
		"completion bash x":                     {2, `arguments: ["x"], want none`},
		"version x":                             {2, `arguments: ["x"], want none`},
		"version -o yaml":                       {2, `--output: "yaml", want text or json`},
		"schema x":                              {2, `arguments: ["x"], want none`},
		"render":                                {2, "want -f FILE"},
		"render -f - x":                         {2, `arguments: ["x"], want none`},
		"render -f /not/there":                  {2, "/not/there"},
		"render -f .":                           {2, "is a directory"},
		"render -f - --job-template /not/there": {2, "/not/there"},
		"render -x":                             {2, "unknown flag -x"},
		"render --filenmae x":                   {2, `unknown flag --filenmae, did you mean --filename?` + "\n" + `See "runnerctl render --help".`},
		"render -filename x":                    {2, "-filename: want two dashes, --filename"},
		"render --output":                       {2, "flag needs an argument: --output"},
		"lint":                                  {2, "want FILE or --kubeconfig"},
		"lint -fail-on warning " + good:         {2, "-fail-on: want two dashes, --fail-on"},
		"lint --fail-on=never " + good:          {2, `--fail-on: "never", want error or warning`},
		"lint -rules":                           {2, "did you mean --rules?"},
		"lint -o xml --poll-interval 1s":        {2, "--poll-interval: 1s, want at least 10s\nnothing to check"},
		"lint /not/there":                       {2, "/not/there"},
		"check credentials --workspace acme --repository a/b x": {2, `arguments: ["x"]`},
		"check live":                          {2, "--workspace: missing"},
		"check live --worskpace acme":         {2, "did you mean --workspace?"},
		"check image":                         {2, "command: none given"},
		"check image --root /not/there":       {2, "/not/there"},
		"check image -- /not/there":           {2, "/not/there"},
		"check image --stop-grace soon -- sh": {2, `--stop-grace: "soon", want a positive duration`},
	} {
		t.Run(line, func(t *testing.T) {
			got := runs(t, nil, "", words(line)...)
			if got.code != want.code || !strings.Contains(got.printed(), want.says) {
				t.Errorf("exit code %d, want %d and %q in:\n%s", got.code, want.code, want.says, got.printed())
			}
			if got.code == 2 && got.stdout != "" {
				t.Errorf("an error is printed to stdout: %s", got.stdout)
			}
		})
	}
}

// each visits a command and those below it.
func each(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		each(sub, visit)
	}
}

func TestEveryCommandHasExamplesThatItsFlagsFit(t *testing.T) {
	root := newRoot(os.LookupEnv)
	each(root, func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "runnerctl") {
			t.Errorf("%s: short help %q, example %q, want both", c.CommandPath(), c.Short, c.Example)
		}
		for example := range strings.Lines(c.Example) {
			_, line, found := strings.Cut(example, "runnerctl ")
			if !found {
				continue
			}
			line, _, _ = strings.Cut(line, " #")
			line, _, _ = strings.Cut(line, " | ")
			line, _, _ = strings.Cut(line, " && ")
			line, _, _ = strings.Cut(line, " >")
			named, rest, err := newRoot(os.LookupEnv).Find(words(line))
			if err == nil {
				err = named.ParseFlags(rest)
			}
			if err != nil || named.HasSubCommands() {
				t.Errorf("%s: the example %q is not a command: %v", c.CommandPath(), example, err)
			}
		}
	})
}

func TestHelpIsAsItWas(t *testing.T) {
	var all strings.Builder
	each(newRoot(os.LookupEnv), func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath()+" ", "runnerctl ")
		got := runs(t, nil, "", words(path+" --help")...)
		all.WriteString("$ " + c.CommandPath() + " --help\n" + got.stdout + "\n")
	})
	const golden = "testdata/help.golden"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(readFile(t, golden), all.String()); diff != "" {
		t.Errorf("%s -, printed +; UPDATE_GOLDEN=1 takes it over:\n%s", golden, diff)
	}
}

func TestShellsCompleteCommandsFlagsAndValues(t *testing.T) {
	for line, want := range map[string]string{"re": "render", "check cr": "credentials", "lint --fail-": "--fail-on", "lint -o ": "text\njson\nsarif", "lint --fail-on ": "error\nwarning", "help re": "render"} {
		got := runs(t, nil, "", append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if !strings.HasPrefix(got.stdout, want) {
			t.Errorf("%s: got %q, want %s", line, got.stdout, want)
		}
	}
}

func TestTheVersionComesFromTheLinkerOrTheBuild(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	info.Main.Version = "v1.2.3"
	for name, c := range map[string]struct {
		version, commit, date string
		info                  *debug.BuildInfo
		want                  [3]string
	}{
		"the linker's":     {"v9", "abc", "today", info, [3]string{"v9", "abc", "today"}},
		"the build's":      {"dev", "", "", info, [3]string{"v1.2.3", "0123-dirty", "2026-01-02T03:04:05Z"}},
		"of a plain build": {"dev", "", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, [3]string{"dev", "", ""}},
		"nothing":          {"dev", "", "", nil, [3]string{"dev", "", ""}},
	} {
		b := buildOf(c.version, c.commit, c.date, c.info)
		if got := [3]string{b.Version, b.Commit, b.Date}; got != c.want || !strings.HasPrefix(b.Go, "go") || !strings.Contains(b.Platform, "/") {
			t.Errorf("%s: got %+v, want %q", name, b, c.want)
		}
	}
	var reported build
	if got := runs(t, nil, "", "version", "-o", "json"); json.Unmarshal([]byte(got.stdout), &reported) != nil || reported != built() {
		t.Errorf("got %s, want %+v", got.stdout, built())
	}
}

func TestColoursAreForTerminalsOnlyAndNeverWithNOCOLOR(t *testing.T) {
	for name, c := range map[string]struct {
		environment map[string]string
		want        bool
	}{
		"a terminal":       {map[string]string{"TERM": "xterm"}, true},
		"NO_COLOR":         {map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, false},
		"NO_COLOR, empty":  {map[string]string{"TERM": "xterm", "NO_COLOR": ""}, true},
		"a dumb terminal":  {map[string]string{"TERM": "dumb"}, false},
		"nothing is known": {nil, true},
	} {
		if got := colours(func(name string) (string, bool) { v, ok := c.environment[name]; return v, ok }); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if styleOf(file, os.LookupEnv).on || styleOf(&strings.Builder{}, os.LookupEnv).on {
		t.Error("a file is painted")
	}
}

func TestOnlySeveritiesAndVerdictsArePainted(t *testing.T) {
	const escape = "\x1b["
	findings := []lint.Finding{{Severity: lint.Error, File: "f"}, {Severity: lint.Warning, File: "f"}}
	for on, want := range map[bool]int{true: 4, false: 0} {
		var text strings.Builder
		if err := writeFindingLines(&text, findings, style{on: on}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(text.String(), escape); got != want {
			t.Errorf("painted %v: %d escapes, want %d in %q", on, got, want, &text)
		}
	}
	var table strings.Builder
	writeFindings(&table, []probe.Finding{{Verdict: probe.Holds}, {Verdict: probe.DoesNotHold}, {Verdict: probe.NotSeen}}, style{on: true})
	if got := strings.Count(table.String(), escape); got != 6 {
		t.Errorf("%d escapes, want 6 in %q", got, &table)
	}
}
