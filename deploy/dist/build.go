package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"bitbucket-runner-scaler/deploy/dist/archive"
	"bitbucket-runner-scaler/deploy/dist/bom"
	"bitbucket-runner-scaler/deploy/dist/image"
	"bitbucket-runner-scaler/deploy/dist/licence"
	"bitbucket-runner-scaler/deploy/dist/manifest"
	"bitbucket-runner-scaler/deploy/dist/program"
	"bitbucket-runner-scaler/deploy/dist/release"
)

// distribution is what is being made.
type distribution struct {
	release.Release
	Places

	root, out, ldflags string
	log                io.Writer

	dir      string // the files, until all are there
	builder  program.Builder
	goroot   string
	licence  []byte            // of the project
	licences map[string][]byte // of what programs contain, by name of the program and platform
	files    []file
}

// file is a file of the distribution, and what it is for.
type file struct {
	name, about string
	size        int
	sum         string
}

// sums is the name of the file with the checksums, the last one to be written.
const sums = "SHA256SUMS"

// build makes all files beside the directory that is asked for, and replaces it at the end.
func build(ctx context.Context, d *distribution) error {
	dir, end, err := stage(d.out)
	if err != nil {
		return err
	}
	defer end()
	d.dir = dir
	work, err := os.MkdirTemp("", "dist-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	d.builder = program.Builder{Root: d.root, LDFlags: d.ldflags, Work: work}
	if d.licence, err = os.ReadFile(filepath.Join(d.root, "LICENSE")); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	d.goroot, d.licences = strings.TrimSpace(string(out)), map[string][]byte{}
	for _, step := range []func(context.Context) error{d.build, d.programs, d.images, d.published, d.readme, d.checksums} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return replace(d.dir, d.out)
}

// build builds all programs, and checks that they say what they are.
func (d *distribution) build(ctx context.Context) error {
	if err := d.builder.Build(ctx, func(on program.Platform) { d.say("building for %s ...", on) }); err != nil {
		return err
	}
	for _, p := range program.All {
		for _, on := range p.Platforms {
			if on.OS != runtime.GOOS || on.Arch != runtime.GOARCH {
				continue
			}
			out, err := exec.CommandContext(ctx, d.builder.File(p.Name, on), "--version").Output()
			if err != nil {
				return fmt.Errorf("%s --version: %w", p.Name, err)
			}
			if got := strings.TrimSpace(string(out)); got != d.Version {
				return fmt.Errorf("-ldflags: %s --version says %q, want %s", p.Name, got, d.Version)
			}
		}
	}
	return nil
}

// programs writes the archives of the programs, their bills of materials and the krew manifest.
func (d *distribution) programs(ctx context.Context) error {
	krew := manifest.Download{Version: d.Version, Homepage: d.Homepage, URL: d.Download, SHA256: map[string]string{}}
	for _, p := range program.All {
		d.say("packing %s ...", p.Name)
		pages, err := d.builder.Pages(ctx, p)
		if err != nil {
			return err
		}
		for _, on := range p.Platforms {
			sum, err := d.program(ctx, p, on, pages)
			if err != nil {
				return err
			}
			if p.Name == "runnerctl" {
				krew.SHA256[on.String()] = sum
			}
		}
	}
	template, err := os.ReadFile(filepath.Join(d.root, "deploy/krew/bitbucket-runners.yaml"))
	if err != nil {
		return err
	}
	text, err := manifest.Krew(template, krew)
	if err != nil {
		return err
	}
	return d.write("bitbucket-runners-"+d.Version+".yaml", "krew manifest of runnerctl as the kubectl plugin bitbucket-runners", text)
}

// program writes the archive and the bill of materials of a program on a platform, and returns the
// checksum of the archive.
func (d *distribution) program(ctx context.Context, p program.Program, on program.Platform, pages []program.Page) (string, error) {
	content, err := os.ReadFile(d.builder.File(p.Name, on))
	if err != nil {
		return "", err
	}
	modules, err := licence.Modules(ctx, d.root, d.goroot, runtime.Version(), program.Environment(on), "./cmd/"+p.Name)
	if err != nil {
		return "", err
	}
	third := licence.Text(p.Name, modules)
	d.licences[p.Name+on.String()] = third
	entries := []archive.Entry{
		{Name: filepath.Base(d.builder.File(p.Name, on)), Mode: 0o755, Content: content},
		{Name: "LICENSE", Mode: 0o644, Content: d.licence},
		{Name: "THIRD_PARTY_LICENSES", Mode: 0o644, Content: third},
	}
	for _, page := range pages {
		entries = append(entries, archive.Entry{Name: page.Name, Mode: 0o644, Content: page.Content})
	}
	base := fmt.Sprintf("%s-%s-%s", p.Name, d.Version, on)
	var packed bytes.Buffer
	name, pack := base+".tar.gz", archive.WriteTarGz
	if on.OS == "windows" {
		name, pack = base+".zip", archive.WriteZip
	}
	if err := pack(&packed, d.Date, entries); err != nil {
		return "", err
	}
	about := p.Name + " for " + on.OS + " on " + on.Arch + ", with licences"
	if len(pages) > 0 {
		about += ", completions"
	}
	if p.Manual {
		about += ", man pages"
	}
	if err := d.write(name, about, packed.Bytes()); err != nil {
		return "", err
	}
	sum := d.files[len(d.files)-1].sum
	materials, err := bom.Write(bom.Subject{Name: p.Name, Version: d.Version, On: on, Content: content, Date: d.Date}, modules)
	if err != nil {
		return "", err
	}
	return sum, d.write(base+".cdx.json", "bill of materials of that program (CycloneDX)", materials)
}

// images writes the images, and what installs the scaler's: the chart and the manifests.
func (d *distribution) images(context.Context) error {
	about := "control plane and sidecar for self-hosted runners of Bitbucket Pipelines on Kubernetes"
	digest, err := d.image(image.Image{Title: "bitbucket-runner-scaler", Description: about, Entrypoint: "/scaler", User: "65532:65532", Repository: d.Image}, []string{"scaler", "sidecar"})
	if err != nil {
		return err
	}
	// The stand-in runner needs /tmp, and like the runner that it stands for it is root.
	tmp := archive.Entry{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777}
	_, err = d.image(image.Image{Title: "bitbucket-emulator", Description: "Bitbucket's runners and pipelines in memory, and a stand-in runner, for tests", Entrypoint: "/bitbucket-emulator", Repository: d.Emulator}, []string{"bitbucket-emulator"}, tmp)
	if err != nil {
		return err
	}
	scaler := manifest.Image{Repository: d.Image, Tag: d.Version, Digest: digest}
	packed, err := manifest.Chart(filepath.Join(d.root, "deploy/chart"), d.Version, d.Homepage, scaler, d.Date)
	if err != nil {
		return err
	}
	if err := d.write(chartName(d.Number()), "Helm chart, with the image by digest", packed); err != nil {
		return err
	}
	text, err := manifest.Install(filepath.Join(d.root, "deploy/base"), d.Version, scaler)
	if err != nil {
		return err
	}
	return d.write(installName(d.Version), "manifests of deploy/base, with the image by digest", text)
}

// image writes an image that has programs and further entries, and returns the digest of its index.
func (d *distribution) image(i image.Image, programs []string, further ...archive.Entry) (string, error) {
	d.say("packing the image %s ...", i.Title)
	i.Version, i.Commit, i.Date, i.Homepage = d.Version, d.Commit, d.Date, d.Homepage
	files := map[program.Platform][]archive.Entry{}
	for _, on := range []program.Platform{{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}} {
		entries := []archive.Entry{{Name: "licenses", Mode: fs.ModeDir | 0o755}, {Name: "licenses/LICENSE", Mode: 0o644, Content: d.licence}}
		for _, name := range programs {
			content, err := os.ReadFile(d.builder.File(name, on))
			if err != nil {
				return "", err
			}
			entries = append(entries,
				archive.Entry{Name: "licenses/" + name + ".THIRD_PARTY_LICENSES", Mode: 0o644, Content: d.licences[name+on.String()]},
				archive.Entry{Name: name, Mode: 0o755, Content: content})
		}
		files[on] = append(entries, further...)
	}
	index, err := i.Index(files)
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	if err := i.Archive(&packed, index); err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	about := fmt.Sprintf("OCI image of %s for linux on amd64 and arm64, %s", strings.Join(programs, " and "), digest)
	return digest.String(), d.write(imageName(i.Title, d.Version), about, packed.Bytes())
}

func imageName(title, version string) string { return title + "-" + version + "-image.tar" }

func installName(version string) string { return "install-" + version + ".yaml" }

func chartName(number string) string { return "bitbucket-runner-scaler-" + number + ".tgz" }

func (d *distribution) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.log, format+"\n", args...)
}
