// Package browser drives a real Chromium, for pictures of the scaler's page and for its tests.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// patience bounds one visit to a page.
const patience = 60 * time.Second

// programs are the names of the browser, in the order in which they are tried.
var programs = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}

// ErrNone means that there is no Chromium on this machine.
var ErrNone = errors.New("no Chromium and no Chrome is installed here")

// Find returns the path of a Chromium. The variable CHROMIUM wins. The error is ErrNone if there is
// none.
func Find() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path, nil
	}
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path, nil
		}
	}
	return "", ErrNone
}

// Look is how a page is looked at.
type Look struct {
	Width, Height int64
	Dark          bool
	// NoScript looks without JavaScript.
	NoScript bool
}

// Browser is a running Chromium.
type Browser struct {
	ctx    context.Context //nolint:containedctx // the library keeps the browser in it
	cancel func()
}

// Start starts a Chromium with an empty profile. Close ends it.
func Start(ctx context.Context) (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, // which a browser of root has not
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(patience))
	allocated, end := chromedp.NewExecAllocator(ctx, options...)
	running, stop := chromedp.NewContext(allocated)
	b := &Browser{ctx: running, cancel: func() { stop(); end() }}
	if err := chromedp.Do(running); err != nil {
		b.cancel()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return b, nil
}

// Close ends the browser.
func (b *Browser) Close() { b.cancel() }

// Tab is one tab with a page.
type Tab struct {
	// Context is that of the library's actions in the tab.
	Context context.Context //nolint:containedctx // the library keeps the tab in it
	close   func()
}

// Open opens a page in a tab of its own. Close closes it.
func (b *Browser) Open(url string, look Look) (*Tab, error) {
	tab, closeTab := chromedp.NewContext(b.ctx)
	t := &Tab{Context: tab, close: closeTab}
	if err := chromedp.Do(tab); err != nil { // without a deadline, which would be that of the tab
		t.Close()
		return nil, fmt.Errorf("open a tab: %w", err)
	}
	scheme := "light"
	if look.Dark {
		scheme = "dark"
	}
	if err := t.Do(
		chromedp.EmulateViewport(look.Width, look.Height),
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
			})
			return err
		}),
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: look.NoScript})
			return err
		}),
		chromedp.Navigate(url),
	); err != nil {
		t.Close()
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return t, nil
}

// Close closes the tab.
func (t *Tab) Close() { t.close() }

// Do does something in the tab, in bounded time.
func (t *Tab) Do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(t.Context, patience)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// Get returns what an action returns in a tab, in bounded time.
func Get[T any](t *Tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(t.Context, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// Picture writes a picture of the whole page into a PNG file.
func (t *Tab) Picture(file string) error {
	const best = 100 // PNG
	picture, err := Get(t, chromedp.FullScreenshot(best))
	if err != nil {
		return fmt.Errorf("picture: %w", err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil { //nolint:gosec // it is for everybody
		return fmt.Errorf("picture: %w", err)
	}
	return nil
}
