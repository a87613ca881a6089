//go:build !unix

package main

import (
	"context"
	"errors"
	"io"
)

// checkImage runs what an image runs, which is nothing for this system.
func checkImage(context.Context, []string, io.Writer, io.Writer) error {
	return errors.New("check image: works on Unix systems alone, inside of the image")
}
