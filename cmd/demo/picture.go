package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/testbed"
	"bitbucket-runner-scaler/externalscaler/testbed/browser"
)

const (
	pictureName = "demo-page.png"
	// lookEvery is the time between two looks for a moment that is worth a picture.
	lookEvery = 100 * time.Millisecond
)

// pictureOf takes a picture of the scaler's page once a step waits for a person, and says where it
// is, or why there is none.
func pictureOf(ctx context.Context, bed *testbed.Bed, dir string) string {
	gate := func(s api.Step) bool {
		return s.State == api.StepHeld && slices.ContainsFunc(s.Why, func(r api.Reason) bool { return r.Kind == "HeldByHand" })
	}
	for ticker := time.NewTicker(lookEvery); !slices.ContainsFunc(bed.Plane.Viewer().Take().Steps, gate); {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return "there is no picture of it, because no step has waited for a person"
		case <-ticker.C:
		}
	}
	file := filepath.Join(dir, pictureName)
	switch err := pictures(ctx, bed, map[string]browser.Look{file: {Width: 1280, Height: 900}}); {
	case errors.Is(err, browser.ErrNone):
		return "there is no picture of it, because " + err.Error()
	case err != nil:
		return "a picture of it could not be taken: " + err.Error()
	}
	return "a picture of it is in " + file
}

// pictures takes pictures of the page, by the names of their files.
func pictures(ctx context.Context, bed *testbed.Bed, looks map[string]browser.Look) error {
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	for file, look := range looks {
		tab, err := b.Open(page(bed), look)
		if err != nil {
			return err
		}
		err = tab.Picture(file)
		tab.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// page is where the scaler's page is.
func page(bed *testbed.Bed) string { return fmt.Sprintf("http://%s/", bed.HTTPAddress) }

const (
	// chartSpan is how much of a chart the documentation shows, and burstEvery the time between
	// two bursts of steps in it.
	chartSpan  = 5 * time.Minute
	burstEvery = 45 * time.Second
)

// document lets the bed work for a while, and takes the pictures of the documentation.
func document(ctx context.Context, bed *testbed.Bed, dir string) error {
	burst := emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"self.hosted", "linux", "builds"}, Duration: "25s", Count: 5}
	for begun := time.Now(); time.Since(begun) < chartSpan; {
		if _, err := bed.Control.QueueSteps(ctx, burst); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(burstEvery):
		}
	}
	burst.Count = 6
	misspelt := burst
	misspelt.Count, misspelt.Labels = 1, []string{"self.hosted", "linux", "bulds"}
	for _, request := range []emulator.StepRequest{burst, misspelt} {
		if _, err := bed.Control.QueueSteps(ctx, request); err != nil {
			return err
		}
	}
	select { // until all of it is shown
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Second):
	}
	return pictures(ctx, bed, map[string]browser.Look{
		filepath.Join(dir, "page.png"):       {Width: 1280, Height: 900},
		filepath.Join(dir, "page-dark.png"):  {Width: 1280, Height: 900, Dark: true},
		filepath.Join(dir, "page-phone.png"): {Width: 390, Height: 800},
	})
}
