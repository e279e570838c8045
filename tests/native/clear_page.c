/* Clears huge or gigantic pages, as clear_gigantic_page did under ktask: one page a piece. */
#include <stddef.h>
#include <string.h>

#include "ktask_function.h"

int clear_page(void *start, void *end, void *arg)
{
	(void)arg;
	memset(start, 0, (size_t)((char *)end - (char *)start));
	return KTASK_RETURN_SUCCESS;
}
