package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Census lists what hangs on one network namespace in the kernel, whoever put it there: the links attached to it, their programs, the maps of these,
// and all other programs and links that share such a map. It is how one sees that nothing was left.
type Census struct {
	Links    []link.ID
	Programs []ebpf.ProgramID
	Maps     []ebpf.MapID
}

// TakeCensus counts for the namespace with this inode number. It needs CAP_SYS_ADMIN, as looking at what others loaded does.
func TakeCensus(inode uint64) (Census, error) {
	var c Census
	err := eachLink(func(i *link.Info) {
		if n := i.NetNs(); n != nil && uint64(n.NetnsInode) == inode {
			c.Links = append(c.Links, i.ID)
			c.Programs = append(c.Programs, i.Program)
		}
	})
	if err != nil {
		return c, fmt.Errorf("take census: %w", err)
	}
	maps, err := programMaps()
	if err != nil {
		return c, fmt.Errorf("take census: %w", err)
	}
	for _, p := range c.Programs {
		c.Maps = append(c.Maps, maps[p]...)
	}
	for p, ids := range maps {
		if !slices.Contains(c.Programs, p) && slices.ContainsFunc(ids, func(id ebpf.MapID) bool { return slices.Contains(c.Maps, id) }) {
			c.Programs = append(c.Programs, p)
			c.Maps = append(c.Maps, ids...)
		}
	}
	err = eachLink(func(i *link.Info) {
		if slices.Contains(c.Programs, i.Program) && !slices.Contains(c.Links, i.ID) {
			c.Links = append(c.Links, i.ID)
		}
	})
	if err != nil {
		return c, fmt.Errorf("take census: %w", err)
	}
	slices.Sort(c.Maps)
	c.Maps = slices.Compact(c.Maps)
	return c, nil
}

// Left gives those of the census that are still in the kernel.
func (c Census) Left() (left Census, err error) {
	var errs [3]error
	left.Links, errs[0] = stillThere(c.Links, link.NewFromID)
	left.Programs, errs[1] = stillThere(c.Programs, ebpf.NewProgramFromID)
	left.Maps, errs[2] = stillThere(c.Maps, ebpf.NewMapFromID)
	return left, errors.Join(errs[:]...)
}

// Empty reports whether nothing is listed.
func (c Census) Empty() bool { return len(c.Links)+len(c.Programs)+len(c.Maps) == 0 }

func stillThere[ID any, Object io.Closer](ids []ID, open func(ID) (Object, error)) (there []ID, err error) {
	for _, id := range ids {
		obj, err := open(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return there, fmt.Errorf("look for %v: %w", id, err)
		}
		obj.Close()
		there = append(there, id)
	}
	return there, nil
}

func eachLink(visit func(*link.Info)) error {
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		i, err := it.Link.Info()
		if err != nil {
			return err
		}
		visit(i)
	}
	return it.Err()
}

func programMaps() (map[ebpf.ProgramID][]ebpf.MapID, error) {
	all := make(map[ebpf.ProgramID][]ebpf.MapID)
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it went while we looked
		} else if err != nil {
			return nil, err
		}
		i, err := p.Info()
		if err := errors.Join(err, p.Close()); err != nil {
			return nil, err
		}
		all[id], _ = i.MapIDs()
	}
}
