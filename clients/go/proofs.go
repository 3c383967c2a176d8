// Checks bundles with Go's own packages for transparency logs, golang.org/x/mod/sumdb/note and sumdb/tlog.
//
//	proofs proof.json log.pub [held.checkpoint ...]
//
// checks one bundle by the public keys in a file, one a line, and ties it to each checkpoint that you hold. It says "proven" and exits with 0, or
// "refused" and why and exits with 1. Without arguments each line of standard input is {"keys": [...], "bundle": {...}, "held": [...]}, of which
// "held", the text of checkpoints, may be missing; each line of standard output is the verdict.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type bundle struct {
	Format              int
	Checkpoint          string
	Seq                 int64
	Receipt, Salt, Body []byte
	Inclusion           []string
	Older               []struct {
		Checkpoint  string
		Consistency []string
	}
}

type question struct {
	Keys   []string
	Bundle bundle
	Held   []string
}

// A checkpoint is what a note states about a log.
type checkpoint struct {
	origin string
	tree   tlog.Tree
}

// open gives origin, size and root of a note that one of the keys has signed.
func open(text string, keys note.Verifiers) (string, tlog.Tree, error) {
	opened, err := note.Open([]byte(text), keys)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != opened.Sigs[0].Name {
		return "", tlog.Tree{}, errors.New("no checkpoint of its signer")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return lines[0], tlog.Tree{N: size, Hash: root}, err
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, text := range texts {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		all = append(all, hash)
	}
	return all, nil
}

func check(asked question) error {
	var known []note.Verifier
	for _, key := range asked.Keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return err
		}
		known = append(known, verifier)
	}
	keys, b := note.VerifierList(known...), asked.Bundle
	origin, tree, err := open(b.Checkpoint, keys)
	if err != nil {
		return err
	}
	if len(b.Receipt) < 25 || int64(binary.BigEndian.Uint64(b.Receipt[17:25])) != b.Seq {
		return errors.New("another record")
	}
	id := b.Receipt[1:17]
	if origin != fmt.Sprintf("rollcall/%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]) {
		return errors.New("another log")
	}
	body := sha256.Sum256(append(append([]byte{}, b.Salt...), b.Body...))
	// RecordHash puts the byte 00 before what it is given.
	leaf := tlog.RecordHash(append(append([]byte{}, b.Receipt...), body[:]...))
	inclusion, err := hashes(b.Inclusion)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(inclusion, tree.N, tree.Hash, b.Seq-1, leaf); err != nil {
		return err
	}
	tied := []checkpoint{{origin, tree}}
	for _, older := range b.Older {
		olderOrigin, olderTree, err := open(older.Checkpoint, keys)
		if err != nil {
			return err
		}
		consistency, err := hashes(older.Consistency)
		if err != nil {
			return err
		}
		if olderOrigin != origin {
			return errors.New("another log")
		}
		if err := tlog.CheckTree(consistency, tree.N, tree.Hash, olderTree.N, olderTree.Hash); err != nil {
			return err
		}
		tied = append(tied, checkpoint{olderOrigin, olderTree})
	}
	for _, held := range asked.Held {
		ours, tree, err := open(held, keys)
		if err != nil {
			return err
		}
		if err := tie(checkpoint{ours, tree}, tied); err != nil {
			return err
		}
	}
	return nil
}

// tie finds a checkpoint that is held among those that are proven to be of one history.
func tie(held checkpoint, tied []checkpoint) error {
	found := false
	for _, other := range tied {
		if other.origin == held.origin && other.tree.N == held.tree.N && other.tree.Hash != held.tree.Hash {
			return errors.New("two histories: keep both as evidence")
		}
		found = found || other == held
	}
	if !found {
		return errors.New("nothing ties it to a checkpoint that is held")
	}
	return nil
}

func verdict(asked question) string {
	if err := check(asked); err != nil {
		return "refused: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return "proven"
}

// fromFiles reads a bundle, a file of keys, and checkpoints that are held.
func fromFiles(paths []string) (question, error) {
	var asked question
	if len(paths) < 2 {
		return asked, errors.New("give a bundle and a file of public keys")
	}
	var texts []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return asked, err
		}
		texts = append(texts, string(text))
	}
	asked.Keys, asked.Held = strings.Fields(texts[1]), texts[2:]
	return asked, json.Unmarshal([]byte(texts[0]), &asked.Bundle)
}

func main() {
	if len(os.Args) > 1 {
		asked, err := fromFiles(os.Args[1:])
		said := "refused: "
		if err != nil {
			said += err.Error()
		} else {
			said = verdict(asked)
		}
		fmt.Println(said)
		if said != "proven" {
			os.Exit(1)
		}
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Println("refused:", err)
			continue
		}
		fmt.Println(verdict(asked))
	}
}
