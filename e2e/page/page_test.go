package page

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/testbed"
	"bitbucket-runner-scaler/externalscaler/testbed/browser"
)

// TestMain installs the browser and npm if they are missing.
func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	packages := map[string]string{"npm": "npm"}
	if _, err := browser.Find(); err != nil {
		packages["chromium"] = "chromium"
	}
	err := cluster.RequirePrograms(ctx, os.Stdout, packages)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var looks = map[string]browser.Look{
	"desk, light":  {Width: 1280, Height: 900},
	"desk, dark":   {Width: 1280, Height: 900, Dark: true},
	"phone, light": {Width: 360, Height: 740},
	"phone, dark":  {Width: 360, Height: 740, Dark: true},
}

// hostile is a step with a name that would be markup, if it were not text.
const hostile = `pipelines:
  default:
    - step: {name: "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>", runs-on: [self.hosted, linux, linux.bulds], script: [sleep 60]}
`

// installation is a control plane with a group whose image cannot be pulled, one with two runners,
// and steps that wait.
func installation(t *testing.T) (bed *testbed.Bed, address string) {
	t.Helper()
	bed, err := testbed.Start(t.Context(), testbed.Config{
		Dir: t.TempDir(), Emulator: emulator.Options{RateLimit: 1 << 20}, Webhooks: true, KEDAInterval: time.Hour, Logger: zap.NewNop(),
		ControlPlane: controlplane.Config{Version: "v1.2.3", PollInterval: 200 * time.Millisecond, MaxStaleness: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	linux := bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "linux"}, map[string]string{"workspace": "acme", "repository": "app", "labels": "linux.builds", "strategy": "queuedSteps", "max": "3"})
	job, _ := bed.Cluster.CreateJob(linux)
	bed.Cluster.Wait(job.UID, fleet.Cause{Reason: "ImagePullBackOff", Message: "container runner: not found", CannotStart: true})
	bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "nightly"}, map[string]string{"workspace": "acme", "labels": "nightly", "coolDown": "never"})
	if _, err := bed.Control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: hostile}); err != nil {
		t.Fatal(err)
	}
	return bed, "http://" + bed.HTTPAddress + "/"
}

// visitor is a tab, and what went wrong in it.
type visitor struct {
	*browser.Tab
	t *testing.T

	mu sync.Mutex
	// complaints are messages of the console and exceptions; asked are the addresses that the page loads.
	complaints, asked []string
}

func start(t *testing.T) *browser.Browser {
	t.Helper()
	b, err := browser.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func visit(t *testing.T, b *browser.Browser, address string, look browser.Look) *visitor {
	t.Helper()
	tab, err := b.Open("about:blank", look)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	v := &visitor{Tab: tab, t: t}
	if err := chromedp.Listen(tab.Context, v.note); err != nil {
		t.Fatal(err)
	}
	v.do(chromedp.Func(enable), chromedp.Navigate(address))
	return v
}

func (v *visitor) note(event any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		v.complaints = append(v.complaints, fmt.Sprintf("console.%s %v", e.Type, e.Args))
	case *runtime.EventExceptionThrown:
		v.complaints = append(v.complaints, e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		v.asked = append(v.asked, e.Request.URL)
	case *network.EventLoadingFailed:
		if e.BlockedReason != "" {
			v.complaints = append(v.complaints, fmt.Sprintf("blocked: %s", e.BlockedReason))
		}
	}
}

func (v *visitor) do(steps ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	if err := v.Do(steps...); err != nil {
		v.t.Fatal(err)
	}
}

// evaluate returns what an expression in the page comes to.
func evaluate[T any](v *visitor, expression string) T {
	v.t.Helper()
	value, err := browser.Get(v.Tab, chromedp.Evaluate[T](expression))
	if err != nil {
		v.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until the page's text has some words.
func (v *visitor) until(words ...string) {
	v.t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text := evaluate[string](v, "document.body.innerText")
		missing := slices.IndexFunc(words, func(word string) bool { return !strings.Contains(text, word) })
		if missing < 0 {
			return
		}
		if time.Now().After(limit) {
			v.t.Fatalf("the page has no %q: %s", words[missing], text)
		}
	}
}

// clean checks that nothing was complained of and nothing came from elsewhere.
func (v *visitor) clean(address string) {
	v.t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.complaints) > 0 {
		v.t.Errorf("complaints of the browser: %q", v.complaints)
	}
	for _, asked := range v.asked {
		if !strings.HasPrefix(asked, address) && asked != "about:blank" {
			v.t.Errorf("the page loads %s", asked)
		}
	}
	if len(v.asked) == 0 {
		v.t.Error("no request was seen")
	}
}

// picture keeps a picture of the page among the test's artefacts.
func (v *visitor) picture() {
	v.t.Helper()
	if err := v.Picture(filepath.Join(v.t.ArtifactDir(), "page.png")); err != nil {
		v.t.Error(err)
	}
}

// axe is the source of the rules of accessibility.
var axe = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "axe-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.CopyFS(dir, os.DirFS("npm")); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	return string(source), err
})

// accessible runs axe's rules of WCAG 2.2 A and AA over the page.
func (v *visitor) accessible() {
	v.t.Helper()
	source, err := axe()
	if err != nil {
		v.t.Fatal(err)
	}
	evaluate[any](v, source+";null")
	found, err := browser.Get(v.Tab, chromedp.Evaluate[string](`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})
		.then(r => JSON.stringify({passes: r.passes.length, violations: r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => n.html + " " + n.failureSummary)}))}))`, chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Fatal(err)
	}
	var result struct {
		Passes     int
		Violations []struct {
			ID, Help string
			Nodes    []string
		}
	}
	if err := json.Unmarshal([]byte(found), &result); err != nil {
		v.t.Fatal(err)
	}
	if result.Passes < 15 {
		v.t.Errorf("axe looked at %d rules only", result.Passes)
	}
	for _, violation := range result.Violations {
		v.t.Errorf("axe: %s: %s: %q", violation.ID, violation.Help, violation.Nodes[:min(3, len(violation.Nodes))])
	}
}

const openAll = `document.querySelectorAll("details").forEach(d => d.open = true)`

func TestThePageIsReadable(t *testing.T) {
	_, address := installation(t)
	b := start(t)
	for name, look := range looks {
		t.Run(name, func(t *testing.T) {
			v := visit(t, b, address, look)
			v.until("ImagePull", "LabelMissing", "builds/nightly", "GroupFaulty", "Updating live")
			evaluate[any](v, openAll)
			v.accessible()
			if wide, has := evaluate[int](v, "document.documentElement.scrollWidth"), int(look.Width); wide > has {
				t.Errorf("the page is %d wide, the screen %d", wide, has)
			}
			v.picture()
			v.clean(address)
		})
	}
}

func TestWhatComesFromBitbucketIsText(t *testing.T) {
	_, address := installation(t)
	v := visit(t, start(t), address, looks["desk, light"])
	v.until("<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>")
	if evaluate[bool](v, "window.pwned === 1") {
		t.Error("markup in the name of a step was run")
	}
	v.clean(address)
}

func TestThePageUpdatesItselfAndStaysWhereItIs(t *testing.T) {
	bed, address := installation(t)
	v := visit(t, start(t), address, looks["desk, light"])
	v.until("Updating live", "builds/nightly")
	evaluate[any](v, `(() => { const d = document.getElementById("builds_nightly"); d.open = true; d.querySelector("summary").focus(); })()`)
	bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "arrived"}, map[string]string{"workspace": "acme", "labels": "arrived"})
	v.until("builds/arrived")
	if !evaluate[bool](v, `document.getElementById("builds_nightly").open`) {
		t.Error("the group that was open is closed")
	}
	if !evaluate[bool](v, `document.activeElement.matches("summary")`) {
		t.Error("the focus was lost")
	}
	v.do(chromedp.Click(chromedp.CSS("#pause")))
	v.until("Updates are paused")
	bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "later"}, map[string]string{"workspace": "acme", "labels": "later"})
	v.do(chromedp.Click(chromedp.CSS("#pause")))
	v.until("builds/later", "Updating live")
	v.clean(address)
}

func TestThePageIsUsableByKeyboard(t *testing.T) {
	_, address := installation(t)
	v := visit(t, start(t), address, looks["desk, light"])
	v.until("Updating live")
	v.do(chromedp.KeyEvent("\t"))
	if got := evaluate[string](v, "document.activeElement.textContent"); got != "Skip to the content" {
		t.Errorf("the first stop is %q", got)
	}
	v.do(chromedp.KeyEvent("\r"))
	for range 30 {
		v.do(chromedp.KeyEvent("\t"))
		if evaluate[bool](v, `document.activeElement.matches("summary")`) {
			break
		}
	}
	v.do(chromedp.KeyEvent("\r"))
	if !evaluate[bool](v, `document.activeElement.parentElement.open === true`) {
		t.Error("Enter opens no group")
	}
	v.picture()
}

func TestThePageIsWholeWithoutScripts(t *testing.T) {
	_, address := installation(t)
	b := start(t)
	visit(t, b, address, looks["desk, light"]).until("ImagePull", "LabelMissing") // all is known
	look := looks["phone, light"]
	look.NoScript = true
	tab, err := b.Open(address, look)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	text, err := browser.Get(tab, chromedp.TextContent(chromedp.CSS("main")))
	if err != nil || !strings.Contains(text, "ImagePull") || !strings.Contains(text, "builds/nightly") {
		t.Errorf("%v: %s", err, text)
	}
	if err := tab.Picture(filepath.Join(t.ArtifactDir(), "page.png")); err != nil {
		t.Error(err)
	}
}
