select
    newest_ordered_at,
    published_newest_ordered_at
from {{ ref('int_data_measured') }}
where
    newest_ordered_at < published_newest_ordered_at
    and not {{ var('allow_older_data') }}::boolean
