package unitfile

import (
	"strconv"
	"strings"
)

// spanUnits are the units of a time span.
var spanUnits = map[string]bool{
	"seconds": true, "second": true, "sec": true, "s": true, "minutes": true, "minute": true, "min": true, "months": true, "month": true,
	"M": true, "msec": true, "ms": true, "m": true, "hours": true, "hour": true, "hr": true, "h": true, "days": true, "day": true, "d": true,
	"weeks": true, "week": true, "w": true, "years": true, "year": true, "y": true, "usec": true, "us": true, "μs": true, "µs": true,
	"nsec": true, "ns": true, "": true,
}

// isSpan tells whether value is a time span: "30", "1min 30s", "infinity".
func isSpan(value string) bool {
	value = strings.TrimPrefix(strings.Trim(value, Whitespace), "+")
	if rest, ok := strings.CutPrefix(value, "infinity"); ok {
		return rest == ""
	}

	if value == "" {
		return false
	}

	for value != "" {
		digits := len(value) - len(strings.TrimLeft(value, "0123456789"))
		rest := value[digits:]
		fraction := 0
		if strings.HasPrefix(rest, ".") {
			fraction = len(rest[1:]) - len(strings.TrimLeft(rest[1:], "0123456789"))
			if fraction == 0 {
				return false
			}
			rest = rest[1+fraction:]
		}
		if digits+fraction == 0 || digits > 19 {
			return false
		}

		rest = strings.TrimLeft(rest, Whitespace)
		end := strings.IndexAny(rest, "0123456789."+Whitespace)
		if end < 0 {
			end = len(rest)
		}
		if !spanUnits[rest[:end]] {
			return false
		}
		value = strings.TrimLeft(rest[end:], Whitespace)
	}

	return true
}

func checkSpan(value string) *valueError {
	if isSpan(value) {
		return nil
	}

	return want("want a time span, as 30s, 5min or infinity")
}

// checkTimeoutAbort also takes a boolean that is false, as TimeoutAbortSec= does.
func checkTimeoutAbort(value string) *valueError {
	if value == "infinity" || isSpan(value) {
		return nil
	}

	return want("want a time span, as 30s, 5min or infinity")
}

// isSize tells whether value is a number of bytes: "4096", "1.5G", "1G 512M".
func isSize(value string) bool {
	value = strings.TrimPrefix(value, "+")
	if value == "" {
		return false
	}

	for value != "" {
		value = strings.TrimLeft(value, Whitespace)
		digits := len(value) - len(strings.TrimLeft(value, "0123456789"))
		if digits == 0 || digits > 19 {
			return false
		}
		value = value[digits:]
		if rest, ok := strings.CutPrefix(value, "."); ok {
			value = strings.TrimLeft(rest, "0123456789")
		}
		value = strings.TrimLeft(value, Whitespace)
		if value != "" && strings.IndexByte("BKMGTPE", value[0]) >= 0 {
			value = value[1:]
		} else if value != "" && (value[0] < '0' || value[0] > '9') {
			return false
		}
	}

	return true
}

func checkSize(value string) *valueError {
	if isSize(value) {
		return nil
	}

	return want("want a size in bytes, as 4096, 512K or 2G")
}

func isCount(value string) bool {
	_, err := strconv.ParseUint(strings.TrimPrefix(value, "+"), 0, 64)
	return err == nil
}

func isNiceLimit(value string) bool {
	n, err := strconv.ParseInt(value, 0, 64)
	signed := value != "" && (value[0] == '+' || value[0] == '-')
	if signed {
		return err == nil && n >= -20 && n <= 19
	}

	return err == nil && n >= 0 && n <= 40
}

// checkLimit checks "LIMIT" or "SOFT:HARD".
func checkLimit(isValue func(string) bool) func(string) *valueError {
	return func(value string) *valueError {
		soft, hard, both := strings.Cut(value, ":")
		ok := soft == "infinity" || isValue(soft)
		if both {
			ok = ok && (hard == "infinity" || isValue(hard))
		}
		if ok {
			return nil
		}
		return want("want a limit or SOFT:HARD, each a number with its unit or infinity")
	}
}

// isPercent tells whether value is "12%" or "12.34%", up to most.
func isPercent(value string, most int) bool {
	number, ok := strings.CutSuffix(value, "%")
	whole, fraction, hasFraction := strings.Cut(number, ".")
	n, err := strconv.Atoi(whole)
	isNumber := ok && err == nil && !strings.HasPrefix(whole, "+")
	if !isNumber || n < 0 || n > most {
		return false
	}

	isFraction := len(fraction) >= 1 && len(fraction) <= 2 && strings.Trim(fraction, "0123456789") == ""
	return !hasFraction || isFraction
}

func checkMemory(value string) *valueError {
	if value == "infinity" || isSize(value) || isPercent(value, 100) {
		return nil
	}

	return want("want a size in bytes (512M, 2G), a percentage or infinity")
}

func checkTasks(value string) *valueError {
	isPositive := isCount(value) && value != "0"
	if value == "infinity" || isPositive || isPercent(value, 100) {
		return nil
	}

	return want("want a number, a percentage or infinity")
}

func checkQuota(value string) *valueError {
	if isPercent(value, 1<<30) && strings.Trim(value, "0.%") != "" {
		return nil
	}

	return want("want a percentage, as 50%%")
}

func checkWeight(value string) *valueError {
	if value == "idle" {
		return &valueError{reason: `"idle" needs systemd 252`, since: 252}
	}

	return checkIOWeight(value)
}

func checkIOWeight(value string) *valueError {
	if isNumber(1, 10000)(value) {
		return nil
	}

	return want("want a number from 1 to 10000")
}
