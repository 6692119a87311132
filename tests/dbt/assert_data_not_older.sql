select
    newest_ordered_at,
    published_newest_ordered_at
from {{ ref('int_data_measured') }}
where
    (
        newest_ordered_at < published_newest_ordered_at
        -- Dates that have disappeared are dates that nobody can compare.
        or (newest_ordered_at is null and published_newest_ordered_at is not null)
    )
    and not {{ var('allow_older_data') }}::boolean
