package command

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program returns a command with a group of subcommands.
func program() *cobra.Command {
	root := &cobra.Command{Use: "p"}
	Group(root, "v1")
	group := &cobra.Command{Use: "group", Short: "A group"}
	Group(group, "")
	leaf := &cobra.Command{Use: "leaf", Short: "A leaf"}
	set := Flags(leaf, "P", func(name string) (string, bool) { return map[string]string{"P_WORD": "b"}[name], true })
	word := ""
	set.Choice(&word, "word", "w", "a", "", "a", "b", "fail")
	leaf.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		if err := set.Err(); err != nil {
			return err
		}
		if word == "fail" {
			return errors.New("failed")
		}
		c.Println(word)
		return nil
	}
	group.AddCommand(leaf)
	root.AddCommand(group, VersionCommand("v1"))
	return root
}

func TestExitCodesAndOutputOfCommandLines(t *testing.T) {
	for line, want := range map[string]struct {
		code int
		text string
	}{
		"--version":                {0, "v1\n"},
		"version":                  {0, "v1\n"},
		"group leaf":               {0, "b\n"},
		"group leaf -w a":          {0, "a\n"},
		"group leaf -w fail":       {1, "p: failed\n"},
		"":                         {2, "p: no command given, want completion, group or version\nSee \"p --help\".\n"},
		"grop leaf --wrod x":       {2, "p: unknown command \"grop\", did you mean group?\nSee \"p --help\".\n"},
		"group":                    {2, "p: no command given, want leaf\nSee \"p group --help\".\n"},
		"group laef --word x":      {2, "p: unknown command \"laef\", did you mean leaf?\nSee \"p group --help\".\n"},
		"group leaf --wrod x":      {2, "p: unknown flag --wrod, did you mean --word?\nSee \"p group leaf --help\".\n"},
		"group leaf --word x more": {2, "p: --word: \"x\", want a, b or fail\narguments: [\"more\"], want none, only flags\nSee \"p group leaf --help\".\n"},
		"help gruop":               {2, "p: unknown command \"gruop\", did you mean group?\nSee \"p help --help\".\n"},
		"completion ksh":           {2, "p: unknown command \"ksh\", did you mean bash, fish or zsh?\nSee \"p completion --help\".\n"},
		"completion fish x":        {2, "p: arguments: [\"x\"], want none, only flags\nSee \"p completion fish --help\".\n"},
	} {
		var out strings.Builder
		root := program()
		root.SetOut(&out)
		root.SetErr(&out)
		if code := Run(t.Context(), root, strings.Fields(line)); code != want.code || out.String() != want.text {
			t.Errorf("%s: exit code %d and %q, want %d and %q", line, code, &out, want.code, want.text)
		}
	}
}

func TestShellsCompleteTheWordsThatAFlagAccepts(t *testing.T) {
	var out strings.Builder
	root := program()
	root.SetOut(&out)
	root.SetErr(&strings.Builder{})
	if code := Run(t.Context(), root, []string{"__complete", "group", "leaf", "--word", ""}); code != 0 || !strings.HasPrefix(out.String(), "a\nb\nfail\n") {
		t.Errorf("exit code %d and %q", code, &out)
	}
}

func TestDescriptionsForManPagesHaveTheAcceptedValues(t *testing.T) {
	root, sub := &cobra.Command{Use: "root"}, &cobra.Command{Use: "sub"}
	root.AddCommand(sub)
	Flags(sub, "", nil).Choice(new(string), "output", "o", "text", "form of the findings", "text", "json", "sarif")
	NameChoices(root)
	if got, want := sub.Flags().Lookup("output").Usage, "form of the findings: text, json or sarif"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
