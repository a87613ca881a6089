package handbook

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"bitbucket-runner-scaler/e2e/installation"
)

// place is the location of code blocks: the page's path from the repository's root, and the
// title above them.
type place struct{ page, title string }

// forContributors are pages whose code blocks are not played: they are figures, or publish something.
var forContributors = []string{"docs/architecture.md", "docs/releasing.md"}

// blocks reads the code blocks of all pages for users.
func blocks(t *testing.T) map[place][]string {
	t.Helper()
	root, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	found := map[place][]string{}
	for _, path := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "deploy", "README.md")) {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(forContributors, page) {
			continue
		}
		at := place{page: page}
		err = ast.Walk(goldmark.New().Parser().Parse(text.NewReader(source)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
			if !entering {
				return ast.WalkContinue, nil
			}
			switch node.(type) {
			case *ast.Heading:
				at.title = string(node.Lines().Value(source))
			case *ast.FencedCodeBlock, *ast.CodeBlock:
				found[at] = append(found[at], string(node.Lines().Value(source)))
			}
			return ast.WalkContinue, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// played is the number of blocks per place that the long test runs.
var played = map[place]int{
	{"README.md", "Quickstart"}:   4,
	{"README.md", "Try it"}:       3,
	{"README.md", "How it works"}: 1,

	{"deploy/README.md", "Which overlay"}: 4,
	{"deploy/README.md", "Nodes"}:         2,
	{"deploy/README.md", "Uninstalling"}:  3,

	{"docs/cli.md", "Checks"}:                               1,
	{"docs/configure.md", "Configuring runner groups"}:      2,
	{"docs/configure.md", "By the steps that wait"}:         1,
	{"docs/configure.md", "The working day"}:                1,
	{"docs/configure.md", "What a pipelines file asks for"}: 3,
	{"docs/emulator.md", "The Bitbucket emulator"}:          2,
	{"docs/emulator.md", "Pipelines"}:                       1,
	{"docs/emulator.md", "How steps go"}:                    1,
	{"docs/emulator.md", "Webhooks"}:                        1,
	{"docs/install.md", "The image"}:                        1,
	{"docs/install.md", "An overlay of your own"}:           1,
	{"docs/install.md", "A runner group"}:                   1,
	{"docs/install.md", "Apply"}:                            1,
	{"docs/install.md", "Look"}:                             2,
	{"docs/install.md", "With Helm"}:                        2,
	{"docs/migrate.md", "Without a gap"}:                    4,
	{"docs/observe.md", "The page"}:                         1,
	{"docs/observe.md", "The command line"}:                 3,
	{"docs/observe.md", "Who may look"}:                     1,
	{"docs/observe.md", "The API"}:                          1,
	{"docs/operate.md", "Calling GetMetrics yourself"}:      1,
	{"docs/operate.md", "Maintenance of nodes"}:             1,
	{"docs/operate.md", "Stopping a group for a while"}:     1,
	{"docs/operate.md", "Upgrading"}:                        2,
	{"docs/simulate.md", "A first look"}:                    2,
	{"docs/simulate.md", "Which settings"}:                  2,
	{"docs/simulate.md", "Your own pipelines"}:              2,
	{"docs/troubleshoot.md", "Troubleshooting"}:             1,
	{"docs/webhooks.md", "At Bitbucket"}:                    1,
	{"docs/webhooks.md", "Look"}:                            1,
	{"docs/webhooks.md", "Replacing the secret"}:            2,
	{"docs/webhooks.md", "The listener"}:                    1,
	{"docs/webhooks.md", "The secret"}:                      1,
}

func TestEveryBlockOfTheDocumentationIsRun(t *testing.T) {
	found := blocks(t)
	for at, all := range found {
		if len(all) != played[at] {
			t.Errorf("%s, %s: %d code blocks, of which %d are played", at.page, at.title, len(all), played[at])
		}
	}
	for at := range played {
		if _, ok := found[at]; !ok {
			t.Errorf("%s, %s: played, but there is no such block", at.page, at.title)
		}
	}
}

// filled replaces what a reader replaces. Each text must exist.
func filled(t *testing.T, block string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(block, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], block)
		}
		block = strings.ReplaceAll(block, pairs[i], pairs[i+1])
	}
	return block
}

// lines returns a block's commands without trailing comments.
func lines(block string) []string {
	var commands []string
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, " #")
		if command = strings.TrimSpace(command); command != "" {
			commands = append(commands, command)
		}
	}
	return commands
}

// forwarding is a command that forwards a port in the background.
var forwarding = regexp.MustCompile(`(?m)^kubectl port-forward .* (\d+) &$`)

// patiently waits until each forwarded port is ready before the next command, as a reader
// who types the commands would.
func patiently(script string) string {
	return forwarding.ReplaceAllStringFunc(script, func(command string) string {
		return command + ready(forwarding.FindStringSubmatch(command)[1])
	})
}

// ready waits in a script until something listens at a port of this machine.
func ready(port string) string {
	return "\nfor i in $(seq 600); do (exec 3<>/dev/tcp/127.0.0.1/" + port + ") 2>/dev/null && break; sleep 0.2; done\n"
}
