// Command lambdazip packs files for Lambda so that equal input gives equal
// bytes: a deployment then changes only what has changed.
//
//	lambdazip bootstrap policy.json
//
// It writes bootstrap.zip, named after the first file, beside it.
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if err := pack(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lambdazip:", err)
		os.Exit(1)
	}
}

func pack(files []string) (err error) {
	if len(files) == 0 {
		return errors.New("name the files to pack, the executable first")
	}
	out, err := os.Create(files[0] + ".zip")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	archive := zip.NewWriter(out)
	for i, name := range files {
		mode := os.FileMode(0o644)
		if i == 0 {
			mode = 0o755
		}
		if err := add(archive, name, mode); err != nil {
			return fmt.Errorf("packing %s: %w", name, err)
		}
	}
	return archive.Close()
}

func add(archive *zip.Writer, name string, mode os.FileMode) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	header := &zip.FileHeader{Name: filepath.Base(name), Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(mode)
	w, err := archive.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}
