// Verifies the folder of a log with golang.org/x/mod/sumdb alone: the checkpoint's signature, and every leaf by an inclusion
// proof made from the tiles, which the package holds against the signed root. Then, if one is named, a .tlog-proof file
// (c2sp.org/tlog-proof): its checkpoint's signature, and that it proves the leaf of its index.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(parts ...string) []byte {
	data, err := os.ReadFile(filepath.Join(parts...))
	must(err)
	return data
}

// tiles reads hash tiles. The package's own paths have the height of tiles in them: tile/8/0/000 is tile/0/000 here.
type tiles struct{ folder string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// open verifies a checkpoint.
func open(checkpoint []byte, verifier note.Verifier) tlog.Tree {
	signed, err := note.Open(checkpoint, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(signed.Text, "\n")
	if lines[0] != verifier.Name() {
		must(fmt.Errorf("the origin is %q, the key that of %q", lines[0], verifier.Name()))
	}
	var size int64
	_, err = fmt.Sscanf(lines[1], "%d", &size)
	must(err)
	root, err := tlog.ParseHash(lines[2])
	must(err)
	return tlog.Tree{N: size, Hash: root}
}

// prove verifies a proof of one of these leaves, and gives its index.
func prove(text string, verifier note.Verifier, entries [][]byte) int64 {
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "extra ") {
		must(errors.New("not a proof"))
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	must(err)
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		must(err)
		proof = append(proof, hash)
	}
	tree := open([]byte(checkpoint), verifier)
	must(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entries[index])))
	return index
}

func main() {
	folder := os.Args[1]
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read(folder, "vkey"))))
	must(err)
	tree := open(read(folder, "checkpoint"), verifier)
	size, root := tree.N, tree.Hash
	var entries [][]byte
	reader := tlog.TileHashReader(tree, tiles{folder})
	var index int64
	for index < size {
		bundle := tlog.Tile{H: 8, L: 0, N: index / 256, W: 256}
		if size-index < 256 {
			bundle.W = int(size - index)
		}
		path := strings.Replace(bundle.Path(), "tile/8/0/", "tile/entries/", 1)
		data := read(folder, path)
		for len(data) > 0 {
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			proof, err := tlog.ProveRecord(size, index, reader)
			must(err)
			must(tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(entry)))
			entries = append(entries, entry)
			index++
		}
	}
	fmt.Printf("%d leaves verified\n", index)
	for _, path := range os.Args[2:] {
		fmt.Printf("leaf %d proved\n", prove(string(read(path)), verifier, entries))
	}
}
