package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// known fails at the first key of a JSON document that a value of the type has no field for. Encoding/json could say
// that there is one, but not where, nor what was meant.
func known(doc []byte, t reflect.Type) error {
	var value any
	if err := json.Unmarshal(doc, &value); err != nil {
		return err
	}
	return check("", value, t)
}

// check leaves values of a wrong kind alone: reading them says more.
func check(path string, value any, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil // it knows its own keys
	}
	switch value := value.(type) {
	case map[string]any:
		return checkMapping(path, value, t)
	case []any:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, v := range value {
			if err := check(path+"["+strconv.Itoa(i)+"]", v, t.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkMapping(path string, value map[string]any, t reflect.Type) error {
	keys := make([]string, 0, len(value))
	for key := range value {
		keys = append(keys, key)
	}
	slices.Sort(keys) // the same file gives the same error each time
	fields := map[string]reflect.Type{}
	if t.Kind() == reflect.Struct {
		fields = fieldsOf(t)
	}
	for _, key := range keys {
		below := strings.TrimPrefix(path+"."+key, ".")
		of, ok := fields[key]
		switch {
		case t.Kind() == reflect.Map:
			of = t.Elem()
		case t.Kind() != reflect.Struct:
			return nil
		case !ok:
			return unknown(path, key, fields)
		}
		if err := check(below, value[key], of); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf returns the keys of a struct, those of embedded ones included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

func unknown(path, key string, fields map[string]reflect.Type) error {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	section := "the file"
	if path != "" {
		section = path
	}
	hint := section + " has: " + strings.Join(names, ", ")
	if near := nearest.Word(key, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return &fault{fmt.Sprintf("unknown key %q", strings.TrimPrefix(path+"."+key, ".")), nil, hint}
}
