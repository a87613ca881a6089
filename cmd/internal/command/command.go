// Package command contains what all cobra command lines share: exit codes, the output of
// errors, and suggestions for misspelt names. It does not contain the commands' work.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
)

// Run executes the command that args name, reports its error on the root's error
// stream, and returns the exit code.
func Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagError)
	complete(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			strictHelp(c)
		case "completion":
			strictCompletion(c)
		}
	}
	root.SetArgs(append([]string{}, args...)) // for nil, cobra uses the process's own arguments
	ran, err := root.ExecuteContextC(ctx)
	return exit.Report(root.ErrOrStderr(), root.Name(), ran.CommandPath(), err)
}

// Group makes a command a group of subcommands. Without a subcommand, or with an unknown
// one, it fails. If version is not empty, --version prints it.
func Group(c *cobra.Command, version string) {
	c.Args = cobra.ArbitraryArgs
	showVersion := false
	if version != "" {
		c.Flags().BoolVar(&showVersion, "version", false, "print the version and exit")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case showVersion:
			_, err := fmt.Fprintln(c.OutOrStdout(), version)
			return err
		case len(args) > 0:
			return unknownCommand(c, args[0])
		}
		return exit.Usage(fmt.Errorf("no command given, want %s", commandsOf(c)))
	}
}

// VersionCommand returns the command that prints only the version.
func VersionCommand(version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version)
			return err
		},
	}
}

func commandsOf(c *cobra.Command) string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return flags.List(names)
}

func unknownCommand(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2
	if meant := c.SuggestionsFor(name); len(meant) > 0 {
		slices.Sort(meant)
		return exit.Usage(fmt.Errorf("unknown command %q, did you mean %s?", name, flags.List(meant)))
	}
	return exit.Usage(fmt.Errorf("unknown command %q, want %s", name, commandsOf(c)))
}

// Flags returns the flags of a command. See flags.New.
func Flags(c *cobra.Command, prefix string, lookup func(string) (string, bool)) *flags.Set {
	c.Args = cobra.ArbitraryArgs // unexpected arguments are reported with the other faults
	return flags.New(c.Flags(), prefix, lookup)
}

// CheckEnvironment adds a fault for each variable of the process that has the prefix of
// the flags but is not the name of a flag of any of the program's commands.
func CheckEnvironment(c *cobra.Command, set *flags.Set) {
	var names []string
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		c.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(c.Root())
	set.CheckEnvironment(os.Environ(), names...)
}

// NoArguments returns an error if there are arguments other than flags.
func NoArguments(_ *cobra.Command, args []string) error { return flags.NoArguments(args) }

func flagError(c *cobra.Command, err error) error {
	if errors.As(err, new(*pflag.NotExistError)) && c.HasSubCommands() && c.Flags().NArg() > 0 {
		return unknownCommand(c, c.Flags().Arg(0)) // the flag may belong to the misspelt command
	}
	return flags.Explain(c.Flags(), err)
}

// NameChoices adds the words that flags accept to their descriptions, for man pages, which
// do not show a flag's kind, as --help does.
func NameChoices(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if words := flag.Annotations[flags.Accepted]; words != nil {
			flag.Usage += ": " + flags.List(words)
		}
	})
	for _, sub := range c.Commands() {
		NameChoices(sub)
	}
}

// complete enables shell completion of the words that flags accept.
func complete(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if words := flag.Annotations[flags.Accepted]; words != nil {
			_ = c.RegisterFlagCompletionFunc(flag.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag
		}
	})
	for _, sub := range c.Commands() {
		complete(sub)
	}
}

// strictHelp makes `help` fail for an unknown command. Cobra's own `help` succeeds.
func strictHelp(help *cobra.Command) {
	help.Run, help.RunE = nil, func(c *cobra.Command, args []string) error {
		found, rest, err := c.Root().Find(args)
		if err != nil {
			return exit.Usage(err)
		}
		if len(rest) > 0 {
			return unknownCommand(found, rest[0])
		}
		found.InitDefaultHelpFlag()
		return found.Help()
	}
}

// strictCompletion makes `completion` fail for an unknown shell.
func strictCompletion(completion *cobra.Command) {
	if completion.RunE == nil && completion.HasSubCommands() {
		Group(completion, "")
	}
	for _, shell := range completion.Commands() {
		shell.Args = NoArguments
	}
}

// Count is a number and what it counts: 1 file, 2 files.
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
